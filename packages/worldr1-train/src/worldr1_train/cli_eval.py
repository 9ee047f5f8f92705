"""`worldr1 eval MANIFEST`: measures a model or a folder of videos; one JSON object is the last line on stdout."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command("eval-model")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--videos", type=click.Path(path_type=Path, exists=True), help="Measure this folder of videos instead of a model."
)
@click.option("--adapter", type=click.Path(path_type=Path), help="Folder of a trained adapter.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a value of the manifest.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write, with every metric of every video.")
@click.option("--against", type=click.Path(path_type=Path), help="File written with --out to compare with, in pairs.")
def evaluate(
    manifest: Path,
    videos: Path | None,
    adapter: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    against: Path | None,
) -> None:
    """Measure the model of MANIFEST, without training; the same as `worldr1 eval MANIFEST`.

    The model of the manifest generates the test videos with the same seeds as `worldr1 train`, unless --videos is
    given. The result contains `means` and `num_videos`. With --against, it also contains `change` with 95 % intervals,
    and `alarms`, which treat the given file as the evaluation before training.
    """
    from worldr1_core.errors import UserError
    from worldr1_core.files import check_writable_folder
    from worldr1_core.plugins import installed
    from worldr1_train.plan import read_manifest

    if videos is not None and adapter is not None:
        raise UserError("--videos and --adapter cannot be combined. Give only one of them.")
    registry = installed().registry
    with contextlib.redirect_stdout(sys.stderr):
        chosen = read_manifest(manifest, registry, overrides)
        if out is not None:
            check_writable_folder(out.parent)
        from worldr1_train.evaluation import Evaluation, compare, summarise
        from worldr1_train.standalone_evaluation import check_alarms, evaluate_model, evaluate_videos

        before = None if against is None else Evaluation.load(against)
        if videos is not None:
            found = evaluate_videos(chosen, registry, videos)
        else:
            found = evaluate_model(chosen, registry, manifest.parent, adapter)
        if out is not None:
            found.save(out)
        alarms = [] if before is None else check_alarms(chosen, registry, before, found)
    result: dict[str, Any] = {"means": found.means(), "num_videos": len(found.prompts)}
    if before is not None:
        result["change"] = summarise(compare(before, found))
        result["alarms"] = [alarm.as_data() for alarm in alarms]
    click.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
