"""Runs of `worldr1 train` on the tiny world and the table of what they change, for `ablations` and `objectives`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY, Change
from worldr1_train.plan import RECORD

COLUMNS = (
    *("psnr", "psnr_normalised", "camera_accuracy", "trajectory", "tiny_text_alignment", "tiny_object_pixels"),
    *("mean_gradient", "gradient_x", "gradient_y", "contrast", "motion", "diversity", "flow_matching_loss"),
)
"""Metrics of tables, as far as they were measured."""
QUICK = [
    "train.optimiser={learning_rate: 1.0e-4}",
    "train.groups_per_rollout=1",
    "train.micro_batch_size=2",
    "train.evaluation.num_inference_steps=2",
    "train.evaluation.diversity=null",
    "train.evaluation.reference_clips=null",
    "train.evaluation.num_shown=0",
]
"""What makes a run of either recipe small."""


def manifest_of(recipe: str) -> Path:
    """File of a recipe."""
    return Path(__file__).resolve().parent.parent / "examples" / f"{recipe}.yaml"


def train(folder: Path, recipe: str, overrides: Sequence[str], processes: int, untrained: Path) -> None:
    """Train into a folder, unless it was done before; an interrupted run goes on.

    Args:
        folder: Output folder.
        recipe: Name of a manifest in `examples/`.
        overrides: What is changed in it.
        processes: How many.
        untrained: Folder of a run whose evaluations of the untrained model are taken over where it has them.
    """
    if (folder / AFTER).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    other_noise = any(override.startswith("noise") for override in overrides)
    for name in (BEFORE,) if other_noise else (BEFORE, NOISE_ONLY):
        if (untrained / name).exists() and not (folder / name).exists():
            shutil.copyfile(untrained / name, folder / name)
    command = ["worldr1", "train", str(manifest_of(recipe)), "--output-dir", str(folder)]
    if processes > 1:
        command = ["torchrun", "--nproc-per-node", str(processes), "--no-python", *command]
    if (folder / RECORD).exists():
        command.append("--resume")
    for override in overrides:
        command += ["--set", override]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def as_data(change: Change) -> dict[str, Any]:
    """A change with its interval, rounded."""
    return {"change": round(change.mean, 4), "low": round(change.low, 4), "high": round(change.high, 4)}


def print_table(heads: Sequence[str], rows: Mapping[tuple[str, ...], Mapping[str, Mapping[str, Any]]]) -> None:
    """Print changes as a Markdown table to stderr.

    Args:
        heads: Titles of the first cells.
        rows: First cells -> metric -> what `as_data` gives.
    """
    names = [name for name in COLUMNS if any(name in row for row in rows.values())]
    print(f"| {' | '.join((*heads, *names))} |", file=sys.stderr)
    print("|---" * (len(heads) + len(names)) + "|", file=sys.stderr)
    for first, row in rows.items():
        changes = [row.get(name) for name in names]
        cells = [f"{c['change']:+.3f} ({c['low']:+.3f} to {c['high']:+.3f})" if c else "" for c in changes]
        print(f"| {' | '.join((*first, *cells))} |", file=sys.stderr)
