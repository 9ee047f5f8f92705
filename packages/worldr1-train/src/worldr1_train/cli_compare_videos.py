"""`worldr1 compare-videos`: draws test videos before and after training in one picture."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click


@click.command("compare-videos")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--adapter", type=click.Path(path_type=Path), required=True, help="Folder of a trained adapter.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a value of the manifest.")
@click.option("--num-prompts", type=click.IntRange(1, 64), default=6, show_default=True, help="Number of test prompts.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Output file, .png or .svg.")
def compare_videos(manifest: Path, adapter: Path, overrides: tuple[str, ...], num_prompts: int, out: Path) -> None:
    """Draw test videos of MANIFEST's model before and after training, with the same prompts and seeds.

    The row `before` shows the untrained model from plain Gaussian noise. If MANIFEST has a noise conditioner, the row
    `noise only` shows the untrained model with it.

    The prompts are spaced evenly over the test prompts of `worldr1 train`, not hand-picked.
    """
    from worldr1_core.figures import check_figure_suffix
    from worldr1_core.files import check_writable_folder
    from worldr1_core.plugins import installed
    from worldr1_train.contact_sheet import draw_comparisons, generate_comparisons
    from worldr1_train.plan import read_manifest

    registry = installed().registry
    with contextlib.redirect_stdout(sys.stderr):
        chosen = read_manifest(manifest, registry, overrides)
        check_figure_suffix(out)
        check_writable_folder(out.parent)
        comparisons = generate_comparisons(chosen, registry, manifest.parent, adapter, num_prompts)
        draw_comparisons(comparisons, out)
    click.echo(json.dumps({"picture": str(out), "prompts": [one.prompt for one in comparisons]}, ensure_ascii=False))
