"""`worldr1 ablate`: trains and evaluates the variants of a manifest; tables on stderr, one JSON line on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import click


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path),
    help="Folder of runs and tables.  [default: runs/<name of the manifest>-ablation]",
)
@click.option("--seeds", metavar="LIST", help="Comma-separated seeds of every variant.  [default: the manifest's]")
@click.option("--variant", "only", multiple=True, metavar="NAME", help="Run this variant; may be repeated.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Processes of every run.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a value of every variant.")
def ablate(
    manifest: Path,
    output_dir: Path | None,
    seeds: str | None,
    only: tuple[str, ...],
    processes: int,
    overrides: tuple[str, ...],
) -> None:
    """Train and evaluate every variant of MANIFEST, and compare them.

    The section `variants` of MANIFEST names variants with the values that they change; the first one is the baseline.
    Every variant is trained with every seed by `worldr1 train`, one after the other. If the command is interrupted, run
    it again: finished runs are kept, and a started one is continued.

    The last line of stdout is a JSON object with the figures of every variant; ablation.json, .csv, .md, .tex and .png
    are written to the folder.
    """
    from worldr1_core.files import check_writable_folder
    from worldr1_core.plugins import installed
    from worldr1_train.ablation import plan_ablation, run_ablation

    check_started_once()
    folder = (Path("runs") / f"{manifest.stem}-ablation" if output_dir is None else output_dir).absolute()
    with contextlib.redirect_stdout(sys.stderr):
        plan = plan_ablation(
            manifest,
            installed().registry,
            output_dir=folder,
            seeds=None if seeds is None else parse_seeds(seeds),
            only=only,
            overrides=overrides,
            num_processes=processes,
        )
        check_writable_folder(folder)
        run_ablation(plan)
        from worldr1_train.ablation_files import markdown, save_ablation
        from worldr1_train.ablation_results import read_ablation

        result = read_ablation(plan)
        save_ablation(result, plan)
    click.echo(markdown(result), err=True)
    click.echo(json.dumps({**result.as_data(), "output_dir": str(folder)}, ensure_ascii=False, allow_nan=False))


def check_started_once() -> None:
    """Refuse to run several times at once, as under torchrun: the runs would be trained into the same folders.

    Raises:
        UserError: A launcher has started several processes of this command.
    """
    from worldr1_core.errors import UserError

    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        raise UserError(
            f"worldr1 ablate starts the processes of its runs itself, but a launcher has started it {count} times "
            f"(WORLD_SIZE={count}). Start it once, without torchrun, with --processes {count}."
        )


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a comma-separated list.

    Raises:
        UserError: An entry is not a whole number.
    """
    from worldr1_core.errors import UserError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--seeds takes whole numbers with commas between them, e.g. 0,1,2, received {text!r}."
        ) from None
