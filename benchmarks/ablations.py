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
import tempfile
from pathlib import Path
from typing import Any

import tiny_runs

from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY, Evaluation, compare

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
QUICK = [
    *tiny_runs.QUICK,
    "train.max_steps=2",
    "train.prompts_per_rollout_batch=2",
    "train.evaluation.num_prompts=4",
    "train.evaluation.metrics=[camera-accuracy, motion]",
]


def summarise_variant(folders: list[Path], after: str = AFTER) -> dict[str, Any]:
    """Metric -> before, after, and the paired change over the videos of all runs with its interval and range."""
    runs = [(Evaluation.load(folder / BEFORE), Evaluation.load(folder / after)) for folder in folders]
    first, last = (tiny_runs.pool([pair[k] for pair in runs]) for k in (0, 1))
    by_seed = [compare(*pair) for pair in runs]
    means_before, means_after = first.means(), last.means()
    found = {}
    for name, change in compare(first, last).items():
        old, new = means_before[name], means_after[name]
        found[name] = {
            **tiny_runs.as_data(change),
            "before": old and round(old, 4),
            "after": new and round(new, 4),
            "ratio": round(new / old, 4) if old and new is not None else None,
            "by_seed": [round(changes[name].mean, 4) for changes in by_seed],
            "num_pairs": change.num_pairs,
        }
    return found


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
                tiny_runs.train(folder, args.recipe, overrides, args.processes, out / f"full-{seed}")
            if variant == "full":
                table["warped noise, no training"] = summarise_variant(folders, NOISE_ONLY)
            table[variant] = summarise_variant(folders)
        tiny_runs.print_table(["variant"], {(variant,): row for variant, row in table.items()})
    print(json.dumps({"recipe": args.recipe, "variants": table, "seeds": seeds}))


if __name__ == "__main__":
    main()
