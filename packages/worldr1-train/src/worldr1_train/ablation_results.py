"""Figures of an ablation: the videos of all seeds of a variant together, before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldr1_train.ablation import AblationPlan
from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY, Change, Evaluation, LabelledValues, compare

NO_TRAINING = "noise only, no training"
"""Row for the untrained model with the baseline's noise conditioner."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric of one variant, over the videos of all seeds.

    Attributes:
        before: Mean of the untrained model from plain noise; `None` if every value is missing.
        after: Mean of the trained model.
        interval: 95 % bootstrap interval of `after`.
        change: Paired change by noise and training, after minus before.
        difference: Paired difference from the baseline after training; `None` for the baseline itself.
        by_seed: Mean change of every seed.
    """

    before: float | None
    after: float | None
    interval: tuple[float, float]
    change: Change
    difference: Change | None
    by_seed: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """`after` over `before`."""
        return self.after / self.before if self.before and self.after is not None else None


@dataclass(frozen=True, slots=True)
class AblationResult:
    """Figures of an ablation.

    Attributes:
        variants: Row -> metric -> result. The row `NO_TRAINING` stands first if the baseline has a noise conditioner.
        baseline: Row that the others are compared with.
        seeds: Seeds of every variant.
    """

    variants: Mapping[str, Mapping[str, MetricResult]]
    baseline: str
    seeds: Sequence[int]

    @property
    def metrics(self) -> list[str]:
        """All metrics, in the order in which they were measured."""
        return list(dict.fromkeys(name for row in self.variants.values() for name in row))

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return {
            "baseline": self.baseline,
            "seeds": list(self.seeds),
            "variants": {
                variant: {name: _as_data(result) for name, result in row.items()}
                for variant, row in self.variants.items()
            },
        }


def read_ablation(plan: AblationPlan) -> AblationResult:
    """Read the evaluations of finished runs and compare them.

    Raises:
        UserError: A run has no evaluation, or the evaluations of two runs cannot be compared.
    """
    folders = {variant: [run.folder for run in runs] for variant, runs in plan.runs.items()}
    base = folders[plan.baseline]
    reference = pool_evaluations([Evaluation.load(folder / AFTER) for folder in base])
    rows: dict[str, Mapping[str, MetricResult]] = {}
    if all((folder / NOISE_ONLY).exists() for folder in base):
        rows[NO_TRAINING] = summarise_runs(base, NOISE_ONLY, reference)
    for variant, own in folders.items():
        rows[variant] = summarise_runs(own, AFTER, None if variant == plan.baseline else reference)
    return AblationResult(rows, plan.baseline, plan.seeds)


def summarise_runs(
    folders: Sequence[Path], after: str = AFTER, reference: Evaluation | None = None
) -> dict[str, MetricResult]:
    """Return metric -> result over the videos of several runs.

    Args:
        folders: Folders of the runs, one per seed.
        after: File of the evaluation that is compared with the one before training.
        reference: Evaluation of the baseline after training for the same seeds, or `None`.
    """
    pairs = [(Evaluation.load(folder / BEFORE), Evaluation.load(folder / after)) for folder in folders]
    first, last = (pool_evaluations([pair[k] for pair in pairs]) for k in (0, 1))
    by_seed = [compare(*pair) for pair in pairs]
    differences = {} if reference is None else compare(reference, last)
    means_before, means_after, intervals = first.means(), last.means(), last.intervals()
    return {
        name: MetricResult(
            before=means_before[name],
            after=means_after[name],
            interval=intervals[name],
            change=change,
            difference=differences.get(name),
            by_seed=tuple(changes[name].mean for changes in by_seed if name in changes),
        )
        for name, change in compare(first, last).items()
    }


def pool_evaluations(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return one evaluation of the videos of several, in their order; all must have measured the same metrics."""
    first = evaluations[0]
    held_out = {
        name: LabelledValues(
            [f"run {run}, {label}" for run, one in enumerate(evaluations) for label in one.held_out[name].labels],
            [value for one in evaluations for value in one.held_out[name].values],
        )
        for name in first.held_out
    }
    return Evaluation(
        [prompt for one in evaluations for prompt in one.prompts],
        {name: [value for one in evaluations for value in one.values[name]] for name in first.values},
        held_out,
    )


def _as_data(result: MetricResult) -> dict[str, Any]:
    return {
        "before": _rounded(result.before),
        "after": _rounded(result.after),
        "after_low": _rounded(result.interval[0]),
        "after_high": _rounded(result.interval[1]),
        "ratio": _rounded(result.ratio),
        **_change(result.change),
        "num_pairs": result.change.num_pairs,
        "by_seed": [_rounded(value) for value in result.by_seed],
        "difference": None if result.difference is None else _change(result.difference, "difference"),
    }


def _change(change: Change, name: str = "change") -> dict[str, float | None]:
    return {name: _rounded(change.mean), "low": _rounded(change.low), "high": _rounded(change.high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, 4)
