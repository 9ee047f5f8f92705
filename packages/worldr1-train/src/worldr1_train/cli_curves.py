"""`worldr1 curves`: draws learning curves of training runs."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("curves")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Output file, .png or .svg.")
def curves(runs: tuple[Path, ...], out: Path) -> None:
    """Draw learning curves of the output folders RUNS: total reward, each reward, KL and masked samples."""
    from worldr1_train.curves import plot_curves, read_curves

    plot_curves({str(run): read_curves(run) for run in runs}, out)
    click.echo(json.dumps({"picture": str(out), "runs": [str(run) for run in runs]}))
