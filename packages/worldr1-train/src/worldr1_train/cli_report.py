"""`worldr1 report`: draws the HTML page of a training run, finished or still under way."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="HTML file to write.  [default: report.html in RUN]")
def report(run: Path, out: Path | None) -> None:
    """Draw the page of the training run in the folder RUN: curves, evaluations, videos, settings and cost.

    `worldr1 train` writes it when a run ends. A run that is still under way can be drawn at any time.
    """
    from worldr1_train.run_report import write_report

    click.echo(json.dumps({"report": str(write_report(run, out)), "run": str(run)}, ensure_ascii=False))
