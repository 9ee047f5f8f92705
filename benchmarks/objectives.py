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
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_runs

from worldr1_core.plugins import installed
from worldr1_train.evaluation import AFTER, NOISE_ONLY, Evaluation, compare
from worldr1_train.plan import read_manifest


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an objective is run.

    Attributes:
        manifest: Its manifest in `examples/`.
        overrides: What is changed in the manifest.
    """

    manifest: str
    overrides: tuple[str, ...] = ()


def _matching(name: str) -> Recipe:
    """An objective that reads finished videos alone, with the rewards and groups of Flow-GRPO."""
    options = f"train.objective={{name: {name}, aggregation: gdpo, credit: spatial}}"
    optimiser = "train.optimiser={learning_rate: 6.0e-4, max_grad_norm: 1.0}"
    return Recipe("tiny-flow-grpo", ("sampler.window=0", optimiser, options))


RECIPES = {
    "reward-gradient": Recipe("tiny"),
    "flow-grpo": Recipe("tiny-flow-grpo"),
    "nft": _matching("nft"),
    "awm": _matching("awm"),
}
QUICK = (
    *tiny_runs.QUICK,
    "train.prompts_per_rollout_batch=1",
    "train.evaluation.num_prompts=2",
    "train.evaluation.metrics=[motion]",
)


def videos_per_step(recipe: Recipe, overrides: list[str]) -> int:
    """Videos of an optimiser step."""
    manifest = tiny_runs.manifest_of(recipe.manifest)
    section = read_manifest(manifest, installed().registry, [*recipe.overrides, *overrides]).sections["train"]
    return int(section.prompts_per_rollout_batch * section.group_size // section.updates_per_rollout_batch)


def train(folder: Path, recipe: Recipe, steps: int, overrides: list[str], processes: int, untrained: Path) -> None:
    """Train for so many steps, see `tiny_runs.train`."""
    changes = [*recipe.overrides, *overrides, f"train.max_steps={steps}"]
    if recipe.manifest == "tiny":  # the same course of the learning rate for every length
        changes.append("train.optimiser.schedule=warmup_stable_decay")
        changes.append(f"train.optimiser.decay_steps={max(1, round(0.69 * steps))}")
        changes.append(f"train.optimiser.warmup_steps={min(4, steps // 2)}")
    tiny_runs.train(folder, recipe.manifest, changes, processes, untrained)


def seconds_per_step(folder: Path) -> float:
    """Median duration of a step, from the log: other jobs may slow some of the steps."""
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(row["seconds/rollout_batch"] for row in logged if "seconds/rollout_batch" in row)


def summarise(folder: Path, steps: int, videos: int) -> dict[str, Any]:
    """What a run took and changed, by metrics whose options are the same in both manifests."""
    changes = compare(Evaluation.load(folder / NOISE_ONLY), Evaluation.load(folder / AFTER))
    return {
        "steps": steps,
        "videos": videos,
        "seconds": round(steps * seconds_per_step(folder), 1),
        "change": {n: tiny_runs.as_data(change) for n, change in changes.items() if n in tiny_runs.COLUMNS},
    }


def print_table(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Changes by training."""
    print(f"\n{title}\n", file=sys.stderr)
    table = {(name, str(row["videos"]), str(row["seconds"])): row["change"] for name, row in rows.items()}
    tiny_runs.print_table(["objective", "videos", "seconds"], table)


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
            batch = videos_per_step(recipe, extra)
            steps = 1 if args.quick else max(1, args.videos // batch)
            first = out / f"{objective}-videos"
            train(first, recipe, steps, extra, processes, untrained)
            by_videos[objective] = summarise(first, steps, steps * batch)
            if args.quick:
                continue
            enough = max(1, round(args.seconds / seconds_per_step(first)))
            second = first if enough == steps else out / f"{objective}-seconds"
            train(second, recipe, enough, extra, processes, untrained)
            by_seconds[objective] = summarise(second, enough, enough * batch)
        print_table("As many videos", by_videos)
        if by_seconds:
            print_table("As many seconds", by_seconds)
    print(json.dumps({"by_videos": by_videos, "by_seconds": by_seconds}))


if __name__ == "__main__":
    main()
