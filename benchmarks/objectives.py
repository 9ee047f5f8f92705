"""What does each objective learn on the tiny world, from as many videos and in as much time?

    python benchmarks/objectives.py --quick                        # under a minute: one step of the first
    python benchmarks/objectives.py --out runs/objectives          # an hour or more; goes on where it stopped

Every objective trains twice from the same model: on `--videos` videos, and for `--seconds` of training, by a rate that
its first run measured. Both runs are compared, prompt by prompt, with the untrained model from the same noise. A table
goes to stderr; the last line on stdout is JSON. Evaluations are not part of the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY, Evaluation, compare
from worldr1_train.plan import RECORD

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    *("psnr", "psnr_normalised", "camera_accuracy", "trajectory", "tiny_text_alignment", "tiny_object_pixels"),
    *("gradient_x", "gradient_y", "contrast", "motion", "diversity", "flow_matching_loss"),
)
WARM_UP = 3
"""Steps that the rate leaves out."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an objective is run.

    Attributes:
        manifest: Its manifest in `examples/`.
        videos_per_step: Videos of an optimiser step.
        overrides: What is changed in the manifest.
    """

    manifest: str
    videos_per_step: int
    overrides: tuple[str, ...] = ()


def _matching(name: str) -> Recipe:
    """An objective that reads finished videos alone, with the rewards and groups of Flow-GRPO."""
    options = f"train.objective={{name: {name}, aggregation: gdpo, credit: spatial}}"
    optimiser = "train.optimiser={learning_rate: 6.0e-4, max_grad_norm: 1.0}"
    return Recipe("tiny-flow-grpo", 64, ("sampler.window=0", optimiser, options))


RECIPES = {
    "reward-gradient": Recipe("tiny", 8),
    "flow-grpo": Recipe("tiny-flow-grpo", 64),
    "nft": _matching("nft"),
    "awm": _matching("awm"),
}
QUICK = (
    "train.prompts_per_rollout_batch=1",
    "train.groups_per_rollout=1",
    "train.micro_batch_size=1",
    "train.evaluation.num_prompts=2",
    "train.evaluation.num_inference_steps=2",
    "train.evaluation.metrics=[motion]",
    "train.evaluation.diversity=null",
    "train.evaluation.reference_clips=null",
    "train.evaluation.num_shown=0",
)


def train(folder: Path, recipe: Recipe, steps: int, overrides: list[str], processes: int, untrained: Path) -> None:
    """Train into a folder, unless it was done before; the untrained model is evaluated once."""
    if (folder / AFTER).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in (BEFORE, NOISE_ONLY):
        if (untrained / name).exists() and not (folder / name).exists():
            shutil.copyfile(untrained / name, folder / name)
    command = ["worldr1", "train", str(ROOT / "examples" / f"{recipe.manifest}.yaml"), "--output-dir", str(folder)]
    if processes > 1:
        command = ["torchrun", "--nproc-per-node", str(processes), "--no-python", *command]
    if (folder / RECORD).exists():
        command.append("--resume")
    changes = [*recipe.overrides, f"train.max_steps={steps}", *overrides]
    if recipe.manifest == "tiny":  # the same course of the learning rate for every length
        changes.append(f"train.optimiser.decay_steps={max(1, round(0.42 * steps))}")
        changes.append(f"train.optimiser.warmup_steps={min(4, steps // 2)}")
    for change in changes:
        command += ["--set", change]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def seconds_per_step(folder: Path) -> float:
    """Mean duration of a step, from the log."""
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = [row["seconds/rollout_batch"] for row in logged if "seconds/rollout_batch" in row]
    counted = seconds[WARM_UP:] or seconds
    return sum(counted) / len(counted)


def summarise(folder: Path, recipe: Recipe, steps: int) -> dict[str, Any]:
    """What a run took and changed."""
    rate = seconds_per_step(folder)
    changes = compare(Evaluation.load(folder / NOISE_ONLY), Evaluation.load(folder / AFTER))
    return {
        "steps": steps,
        "videos": steps * recipe.videos_per_step,
        "seconds": round(steps * rate, 1),
        "change": {
            name: {"mean": round(c.mean, 4), "low": round(c.low, 4), "high": round(c.high, 4)}
            for name, c in changes.items()
            if name in COLUMNS
        },
    }


def print_table(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Changes by training as a Markdown table."""
    names = [name for name in COLUMNS if any(name in row["change"] for row in rows.values())]
    print(f"\n{title}\n\n| objective | videos | seconds |", " | ".join(names), "|", file=sys.stderr)
    print("|---" * (len(names) + 3) + "|", file=sys.stderr)
    for objective, row in rows.items():
        cells = [
            f"{c['mean']:+.3f} ({c['low']:+.3f} to {c['high']:+.3f})" if (c := row["change"].get(name)) else ""
            for name in names
        ]
        print(f"| {objective} | {row['videos']} | {row['seconds']} |", " | ".join(cells), "|", file=sys.stderr)


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one step of the first objective, under a minute")
    parser.add_argument("--out", type=Path, help="folder of the runs; a temporary one if left out")
    parser.add_argument("--objectives", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--videos", type=int, default=1920)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    args = parser.parse_args()
    extra = [*args.overrides, *(QUICK if args.quick else ())]
    objectives, processes = (args.objectives[:1], 1) if args.quick else (args.objectives, args.processes)
    by_videos, by_seconds = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) if args.out is None else args.out
        untrained = out / f"{objectives[0]}-videos"
        for objective in objectives:
            recipe = RECIPES[objective]
            videos = recipe.videos_per_step if args.quick else args.videos
            steps = max(1, videos // recipe.videos_per_step)
            first = out / f"{objective}-videos"
            train(first, recipe, steps, extra, processes, untrained)
            by_videos[objective] = summarise(first, recipe, steps)
            if args.quick:
                continue
            steps = max(1, round(args.seconds / seconds_per_step(first)))
            second = out / f"{objective}-seconds"
            train(second, recipe, steps, extra, processes, untrained)
            by_seconds[objective] = summarise(second, recipe, steps)
        print_table("As many videos", by_videos)
        if by_seconds:
            print_table("As many seconds", by_seconds)
    print(json.dumps({"by_videos": by_videos, "by_seconds": by_seconds}))


if __name__ == "__main__":
    main()
