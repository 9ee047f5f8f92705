"""Does training on the tiny world work, and which part of the method does what? Seeds and ablations in one table.

    python benchmarks/ablations.py --quick                     # under a minute: two steps, to see that it runs
    python benchmarks/ablations.py --out runs/ablations        # hours on two cores; goes on where it stopped

Every row is `worldr1 train examples/RECIPE.yaml` with a few values changed, as one process a core, against the
untrained model from plain noise; the recipe is `tiny`, or `tiny-flow-grpo` for the paper's objective. A variant's runs
are averaged over its seeds; `low` and `high` are the ends of the 95 % bootstrap interval over the pairs of all its
runs. `warped noise, no training` comes with the runs of `full`. A table goes to stderr; the last line on stdout is
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from worldr1_train.evaluation import Evaluation, compare
from worldr1_train.plan import RECORD
from worldr1_train.run import AFTER, BEFORE, NOISE_ONLY

ROOT = Path(__file__).resolve().parent.parent
_ONE_STAGE = "train.stages=[{steps: 1000, prompts: main}]"
_COMMON: dict[str, list[str]] = {
    "full": [],
    "no warped noise": ["noise=null"],
    "no S_traj": ["rewards.1.weight=0"],
    "no S_recon": ["rewards.0.weight=0"],
    "no periodic stages": [_ONE_STAGE],
    "past a plane": ["noise.scene=plane", "noise.degradation=0.35"],  # the paper's text
}
RECIPES: dict[str, dict[str, list[str]]] = {
    "tiny": {
        **_COMMON,
        "no R_gen": ["rewards.2.weight=0", "train.objective.at_least={}", _ONE_STAGE],
        "no constraints": ["train.objective.keep={}", "train.objective.at_least={}"],
        "no anchors": ["train.objective.first_frame_anchor=0", "train.objective.noised_kl=0"],
    },
    "tiny-flow-grpo": {
        **_COMMON,
        "no R_gen": ["rewards.2.weight=0", "rewards.3.weight=0", _ONE_STAGE],
        "credit by video": ["train.objective.credit=video"],
        "normalised ratios": ["train.objective.ratio_normalisation=true"],
        "rectified gradients": ["train.objective.rectification=true"],
    },
}
"""Recipe -> variant -> what it changes in `examples/RECIPE.yaml`."""
COLUMNS = (
    *("psnr", "psnr_normalised", "camera_accuracy", "trajectory", "tiny_text_alignment", "tiny_object_pixels"),
    *("mean_gradient", "gradient_x", "gradient_y", "contrast", "motion", "diversity", "flow_matching_loss"),
)
QUICK = [
    "train.max_steps=2",
    "train.optimiser={learning_rate: 1.0e-4}",
    "train.prompts_per_rollout_batch=2",
    "train.groups_per_rollout=1",
    "train.micro_batch_size=1",
    "train.evaluation.num_prompts=4",
    "train.evaluation.metrics=[camera-accuracy, motion]",
]


def manifest_of(recipe: str) -> Path:
    """File of a recipe."""
    return ROOT / "examples" / f"{recipe}.yaml"


def run(folder: Path, recipe: str, overrides: list[str], processes: int, untrained: Path) -> None:
    """Train into a folder, unless it was done before; an interrupted run goes on.

    The untrained model is evaluated once a seed: variants take its figures from `untrained`, the run of `full`.
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


def summarise_variant(folders: list[Path], after: str = AFTER) -> dict[str, Any]:
    """Metric -> before, after, and the paired change over the videos of all runs with its interval and range."""
    runs = [(Evaluation.load(folder / BEFORE), Evaluation.load(folder / after)) for folder in folders]
    prompts = [prompt for before, _ in runs for prompt in before.prompts]
    pooled = [
        Evaluation(prompts, {name: [v for pair in runs for v in pair[k].values[name]] for name in runs[0][k].values})
        for k in (0, 1)
    ]
    changes = compare(*pooled)
    found = {}
    for name, change in changes.items():
        first, last = (float(np.nanmean(part.values[name])) for part in pooled)
        by_seed = [compare(*pair)[name].mean for pair in runs]
        found[name] = {
            "before": round(first, 4),
            "after": round(last, 4),
            "change": round(change.mean, 4),
            "low": round(change.low, 4),
            "high": round(change.high, 4),
            "ratio": round(last / first, 4) if first else None,
            "by_seed": [round(value, 4) for value in by_seed],
            "num_pairs": change.num_pairs,
        }
    return found


def print_table(table: dict[str, dict[str, Any]]) -> None:
    """The changes as a Markdown table."""
    names = [name for name in COLUMNS if any(name in row for row in table.values())]
    print("| variant |", " | ".join(names), "|", file=sys.stderr)
    print("|---" * (len(names) + 1) + "|", file=sys.stderr)
    for variant, row in table.items():
        cells = [
            f"{row[n]['change']:+.3f} ({row[n]['low']:+.3f} to {row[n]['high']:+.3f})" if n in row else ""
            for n in names
        ]
        print(f"| {variant} |", " | ".join(cells), "|", file=sys.stderr)


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two steps of the full recipe, under a minute")
    parser.add_argument("--out", type=Path, help="folder of the runs; a temporary one if left out")
    parser.add_argument("--recipe", choices=list(RECIPES), default="tiny", help="manifest in examples/")
    parser.add_argument("--variants", nargs="+", help="some of the recipe's variants; all if left out")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE")
    args = parser.parse_args()
    known = RECIPES[args.recipe]
    variants, seeds, extra = args.variants or list(known), args.seeds, args.overrides
    if unknown := sorted(set(variants) - known.keys()):
        parser.error(f"{args.recipe} has no variant {unknown[0]!r}, but {', '.join(known)}")
    if args.quick:
        variants, seeds, extra = ["full"], [0], [*extra, *QUICK]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) if args.out is None else args.out
        table = {}
        for variant in variants:
            folders = [out / f"{variant.replace(' ', '-')}-{seed}" for seed in seeds]
            for folder, seed in zip(folders, seeds, strict=True):
                overrides = [f"seed={seed}", *known[variant], *extra]
                run(folder, args.recipe, overrides, args.processes, out / f"full-{seed}")
            if variant == "full":
                table["warped noise, no training"] = summarise_variant(folders, NOISE_ONLY)
            table[variant] = summarise_variant(folders)
        print_table(table)
    print(json.dumps({"recipe": args.recipe, "variants": table, "seeds": seeds}))


if __name__ == "__main__":
    main()
