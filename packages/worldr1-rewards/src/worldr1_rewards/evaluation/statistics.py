"""Statistics over the videos of an evaluation. Videos of one prompt are alike, so that prompts are resampled.

Bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals of 95 %. SciPy computes
everything, and is imported by the first call because that takes longer than the rest of a command's start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000
"""Number of bootstrap resamples."""
MIN_PROMPTS = 5
"""Prompts below which there is no interval: resampling few values says little about others."""
NORMAL_95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: Mean over the videos; NaN without a video.
        low: Lower end of the 95 % interval; NaN for fewer than `MIN_PROMPTS` prompts.
        high: Upper end of the interval.
        num_videos: Videos that have a value.
        num_prompts: Prompts that these videos belong to.
    """

    mean: float
    low: float
    high: float
    num_videos: int
    num_prompts: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired comparison of two methods in one column, for equal prompts and seeds.

    Attributes:
        difference: Value of the method minus value of the baseline.
        win_rate: Share of pairs in which the method is better; ties count half.
        cohens_d: Difference of the means over the root of the mean of the two variances (Cohen, 1988), positive if the
            method is better; NaN without variance.
        needed_prompts: Prompts after which an interval would exclude 0 if mean and spread of the difference stayed the
            same; `None` if it excludes 0 already, or the difference is 0.
    """

    difference: Estimate
    win_rate: Estimate
    cohens_d: float
    needed_prompts: int | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0


def estimate_mean(values: Sequence[float], prompts: Sequence[int]) -> Estimate:
    """Estimate the mean over videos, with an interval by resampling prompts.

    Args:
        values: One value per video, none missing.
        prompts: Prompt of every video.

    Example:
        >>> found = estimate_mean([1.0, 3.0], [0, 1])
        >>> found.mean, found.low, found.num_prompts
        (2.0, nan, 2)
    """
    if not values:
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    totals, counts = _by_prompt(values, prompts)
    mean = float(totals.sum() / counts.sum())
    low, high = _interval(totals, counts)
    return Estimate(mean, low, high, len(values), len(counts))


def compare_pairs(
    values: Sequence[float], baseline: Sequence[float], prompts: Sequence[int], *, higher_is_better: bool = True
) -> Comparison:
    """Compare a method with a baseline, pair by pair.

    Args:
        values: Values of the method, none missing.
        baseline: Values of the baseline for the same prompts and seeds.
        prompts: Prompt of every pair.
        higher_is_better: Direction of the metric.
    """
    own, other = np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)
    difference = own - other
    gain = difference if higher_is_better else -difference
    wins = np.where(gain > 0, 1.0, np.where(gain < 0, 0.0, 0.5))
    estimate = estimate_mean(difference.tolist(), prompts)
    return Comparison(
        difference=estimate,
        win_rate=estimate_mean(wins.tolist(), prompts),
        cohens_d=_cohens_d(own, other) * (1 if higher_is_better else -1),
        needed_prompts=_needed_prompts(difference, prompts, estimate),
    )


def _by_prompt(values: Sequence[float], prompts: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of every prompt."""
    _, index = np.unique(np.asarray(prompts), return_inverse=True)
    totals = np.bincount(index, weights=np.asarray(values, dtype=np.float64)).astype(np.float64)
    return totals, np.bincount(index).astype(np.float64)


def _interval(totals: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if len(counts) < MIN_PROMPTS:
        return math.nan, math.nan

    def mean(totals: NDArray[np.float64], counts: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        ratio: NDArray[np.float64] = totals.sum(axis=axis) / counts.sum(axis=axis)
        return ratio

    found = bootstrap(
        (totals, counts),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _cohens_d(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if len(own) < 2:
        return math.nan
    spread = math.sqrt((own.var(ddof=1) + other.var(ddof=1)) / 2)
    return float((own.mean() - other.mean()) / spread) if spread > 0 else math.nan


def _needed_prompts(difference: NDArray[np.float64], prompts: Sequence[int], estimate: Estimate) -> int | None:
    if estimate.num_prompts < MIN_PROMPTS or estimate.mean == 0 or estimate.low > 0 or estimate.high < 0:
        return None
    totals, counts = _by_prompt(difference.tolist(), prompts)
    spread = float((totals / counts).std(ddof=1))
    return max(estimate.num_prompts + 1, math.ceil((NORMAL_95 * spread / abs(estimate.mean)) ** 2))
