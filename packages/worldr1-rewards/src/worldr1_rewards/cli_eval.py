"""`worldr1 eval`: measures sets of videos, or the model of a manifest with the part that worldr1-train contributes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worldr1_rewards.addresses import is_remote
from worldr1_rewards.cli_engines import LOCAL, RAY, engine_option, gpus_option, refuse, refuse_addresses, worker_options
from worldr1_rewards.cli_paths import FilePath

if TYPE_CHECKING:
    from worldr1_rewards.evaluation.result import EvalResult

MODEL_COMMAND = "eval-model"
"""Command of worldr1-train that generates and scores the test videos of a manifest."""
MAX_WORKERS = 8
"""Default number of processes on a machine with more cores; each holds a clip and its reconstruction in memory."""
SETS_OPTIONS = ("engine", "prompts", "metrics", "baseline", "limit", "num_workers", "num_shown", "gpus_per_worker")
"""Options that only sets of videos have."""
MODEL_OPTIONS = ("adapter", "overrides", "against")
"""Options that only models have."""


@click.command("eval")
@click.argument("manifest", required=False, type=FilePath())
@click.option("--videos", multiple=True, metavar="[NAME=]DIR", help="Set of videos to measure; may be repeated.")
@click.option("--prompts", type=FilePath(), help="Prompts of the videos: text, one per line, .jsonl or .json.")
@click.option("--metrics", help="Comma-separated rewards, or default, 3d, camera, rewards, vbench.")
@click.option("--baseline", metavar="NAME", help="Set that the others are compared with.  [default: the first]")
@click.option("--limit", type=click.IntRange(min=1), help="Measure the videos of the first prompts only.")
@click.option(
    "--workers", "num_workers", type=click.IntRange(min=1), help="Processes.  [default: one per core, 1 with CUDA]"
)
@click.option(
    "--num-shown",
    type=click.IntRange(min=0),
    help="Prompts whose videos report.html shows with pictures.  [default: 5]",
)
@engine_option("Sets of videos: measure with processes of this machine, or with a Ray cluster (RAY_ADDRESS).")
@gpus_option()
@click.option("--out", type=FilePath(), help="Folder for results and tables; with a model, the JSON file to write.")
@click.option("--adapter", type=FilePath(), help="Model: folder of a trained adapter.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Model: override a value of the manifest.")
@click.option("--against", type=FilePath(), help="Model: file written with --out to compare with, in pairs.")
@click.pass_context
def evaluate(
    context: click.Context,
    manifest: Path | None,
    videos: tuple[str, ...],
    prompts: Path | None,
    metrics: str | None,
    baseline: str | None,
    limit: int | None,
    num_workers: int | None,
    num_shown: int | None,
    engine: str,
    gpus_per_worker: float | None,
    out: Path | None,
    adapter: Path | None,
    overrides: tuple[str, ...],
    against: Path | None,
) -> None:
    """Measure sets of videos and compare them, or measure a model.

    Sets of videos: worldr1 eval --videos A=DIR --videos B=DIR --prompts FILE --out DIR writes results.json, table.csv,
    table.md, table.tex and report.html into DIR. Videos meet their prompts by name, <prompt>-<n>.mp4, or, sorted, by
    position. A MANIFEST gives metrics, options and reconstructor. A run that was interrupted continues with the same
    command. A video that cannot be read is reported, the others are measured, and the exit code is 2.

    Model: worldr1 eval MANIFEST generates the test videos of the manifest and scores them, without training; with one
    unnamed --videos DIR it scores that folder instead. This needs worldr1-train.
    """
    given = {name for name, value in context.params.items() if value not in (None, ())}
    if engine == LOCAL:
        given.discard("engine")
        refuse(context, {"gpus_per_worker": "--gpus-per-worker"}, "needs --engine ray.")
    if _is_model(manifest, videos, given):
        _evaluate_model(context, manifest, videos, out, adapter, overrides, against)
        return
    if wrong := sorted(given & set(MODEL_OPTIONS)):
        raise click.UsageError(f"--{_option(wrong[0])} is for models, and sets of videos are measured here.")
    if not videos:
        raise click.UsageError("Give --videos NAME=DIR, or a MANIFEST whose model is measured.")
    from worldr1_rewards.evaluation.api import evaluate as evaluate_videos
    from worldr1_rewards.evaluation.sections import NUM_SHOWN

    sets = _parse_sets(videos)
    options: dict[str, Any] = {
        "metrics": None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()],
        "manifest": manifest,
        "baseline": baseline,
        "out": out,
        "limit": limit,
    }
    with contextlib.redirect_stdout(sys.stderr):
        if engine == RAY:
            from worldr1_rewards.ray_engine.evaluation import evaluate_videos as evaluate_on_ray

            workers = worker_options(num_workers, gpus_per_worker)
            result = evaluate_on_ray(sets, prompts, num_shown=num_shown or 0, workers=workers, **options)
        else:
            refuse_addresses(list(sets.values()))
            result = evaluate_videos(
                sets,
                prompts,
                num_workers=num_workers or _default_workers(),
                num_shown=NUM_SHOWN if num_shown is None else num_shown,
                **options,
            )
    _report(result, out)
    if result.num_failed:
        raise click.exceptions.Exit(2)


def _is_model(manifest: Path | None, videos: tuple[str, ...], given: set[str]) -> bool:
    """Return True for the form of the command that worldr1-train serves."""
    if manifest is None or given & set(SETS_OPTIONS):
        return False
    return len(videos) <= 1 and not any("=" in video and not Path(video).exists() for video in videos)


def _evaluate_model(
    context: click.Context,
    manifest: Path | None,
    videos: tuple[str, ...],
    out: Path | None,
    adapter: Path | None,
    overrides: tuple[str, ...],
    against: Path | None,
) -> None:
    from worldr1_core.errors import MissingExtraError, UserError
    from worldr1_core.plugins import installed

    registry = installed().registry
    if not registry.has("command", MODEL_COMMAND):
        raise MissingExtraError(
            "Measuring the model of a manifest needs the package worldr1-train. Install it with: pip install "
            "worldr1-train. To measure folders of videos, name them: --videos NAME=DIR."
        )
    folder = Path(videos[0]) if videos else None
    if folder is not None and not folder.exists():
        raise UserError(f"--videos {str(folder)!r} does not exist.")
    command = registry.load("command", MODEL_COMMAND)
    context.invoke(
        command, manifest=manifest, videos=folder, adapter=adapter, overrides=overrides, out=out, against=against
    )


def _parse_sets(videos: tuple[str, ...]) -> dict[str, str | Path]:
    from worldr1_core.errors import UserError

    sets: dict[str, str | Path] = {}
    for text in videos:
        name, equals, path = text.partition("=")
        if is_remote(name):  # an address, which may hold an equals sign, without a name
            name, path = text.rstrip("/").rpartition("/")[2], text
        elif not equals or Path(text).exists():
            name, path = Path(text).resolve().name, text
        if not name or not path:
            raise UserError(f"--videos must be NAME=DIR, received {text!r}.")
        if name in sets:
            raise UserError(f"Two sets of videos are called {name!r}. Name them: --videos NAME=DIR.")
        sets[name] = path if is_remote(path) else Path(path)
    return sets


def _default_workers() -> int:
    import torch

    return 1 if torch.cuda.is_available() else min(MAX_WORKERS, os.cpu_count() or 1)


def _report(result: EvalResult, out: Path | None) -> None:
    """Print the tables on stderr and a JSON line on stdout."""
    for record in result.videos:
        if record.error is not None:
            click.echo(f"Error: {record.method}: {record.video}: {record.error}", err=True)
    click.echo(result.to_markdown(with_groups=False), err=True)
    line: dict[str, Any] = {
        "means": result.means(),
        "num_videos": {method: sum(r.method == method for r in result.videos) for method in result.methods},
        "num_failed": result.num_failed,
        "warnings": list(result.warnings),
        "out": None if out is None else str(out),
    }
    click.echo(json.dumps(line, ensure_ascii=False, allow_nan=False))


def _option(parameter: str) -> str:
    return {"overrides": "set", "num_workers": "workers"}.get(parameter, parameter)
