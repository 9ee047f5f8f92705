"""Does training on the tiny world work, and which part of the method does what? Seeds and ablations in one table.

    python benchmarks/ablations.py --quick                     # under a minute: two steps, to see that it runs
    python benchmarks/ablations.py --out runs/ablations        # hours on two cores; goes on where it stopped

The variants below are run by `worldr1_train.ablation`, as `worldr1 ablate` runs those of a manifest: every row is
`worldr1 train examples/RECIPE.yaml` with a few values changed, against the untrained model from plain noise; the
recipe is `tiny`, or `tiny-flow-grpo` for the paper's objective. A variant's runs are averaged over its seeds; `low` and
`high` are the ends of the 95 % bootstrap interval over the pairs of all its runs, and `difference` compares with
`full`. A table of changes goes to stderr, tables and plots to the folder; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import tiny_runs

from worldr1_core.plugins import installed
from worldr1_train.ablation import plan_ablation, run_ablation
from worldr1_train.ablation_files import save_ablation
from worldr1_train.ablation_results import read_ablation

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
        "no R_gen": ["rewards.2.weight=0", "train.objective.at_least={sharpness-evenness: 1.0}", _ONE_STAGE],
        "no constraints": [
            "train.objective.keep={}",
            "train.objective.at_least={}",
            "train.objective.keep_diversity=null",
        ],
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
        plan = plan_ablation(
            tiny_runs.manifest_of(args.recipe),
            installed().registry,
            output_dir=(Path(temporary) if args.out is None else args.out).absolute(),
            variants=known,
            seeds=seeds,
            only=variants,
            overrides=extra,
            num_processes=args.processes,
        )
        run_ablation(plan)
        result = read_ablation(plan)
        save_ablation(result, plan)
    figures = result.as_data()["variants"]
    tiny_runs.print_table(["variant"], {(variant,): row for variant, row in figures.items()})
    print(json.dumps({"recipe": args.recipe, "variants": figures, "seeds": seeds}))


if __name__ == "__main__":
    main()
