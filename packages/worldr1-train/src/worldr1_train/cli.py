"""`worldr1 train`: writes progress, logs and a result table to stderr, and one JSON object as last line to stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import click


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a value of the manifest.")
@click.option(
    "--output-dir", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/<name of the manifest>]"
)
@click.option("--resume", is_flag=True, help="Continue the run from its last complete checkpoint.")
def train(manifest: Path, overrides: tuple[str, ...], output_dir: Path | None, resume: bool) -> None:
    """Post-train a backbone with the rewards of MANIFEST.

    The model is evaluated on the test prompts before and after training. The trained adapter, checkpoints,
    metrics.jsonl, sample videos and both evaluations are written to the folder of the run. The last line of stdout is a
    JSON object with `before`, `after`, `change` (paired, with 95 % intervals), `seconds` and `output_dir`; the same
    results are printed as a table to stderr.

    To use several processes: OMP_NUM_THREADS=1 torchrun --nproc-per-node N --no-python worldr1 train MANIFEST
    """
    from worldr1_core.log import configure_logging, is_json
    from worldr1_core.plugins import installed
    from worldr1_train.cli_filters import unhelpful_warnings_left_out
    from worldr1_train.plan import plan_run
    from worldr1_train.result_table import result_table

    is_first = int(os.environ.get("RANK", "0")) == 0
    if not is_first:
        configure_logging("warning", json=is_json())  # only the first process logs progress
    with contextlib.redirect_stdout(sys.stderr), unhelpful_warnings_left_out():
        plan = plan_run(manifest, installed().registry, overrides=overrides, output_dir=output_dir, resume=resume)
        from worldr1_train.log_context import run_ids
        from worldr1_train.run import TrainingRun  # a slow import (trl, transformers)

        with run_ids(plan.output_dir):
            run = TrainingRun(plan)
            result = run.execute()
            run.close()
    if is_first:
        click.echo(result_table(result, colours=sys.stderr.isatty()), err=True)
        click.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
