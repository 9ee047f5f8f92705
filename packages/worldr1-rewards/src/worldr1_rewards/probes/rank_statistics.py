"""Statistics of the separation of two groups of clips by their scores, and of the rank correlation with severity.

Clips without a score are left out; whoever reports a figure reports their number beside it. SciPy computes the figures,
and is imported by the first call because that takes longer than the rest of a command's start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any


def auc(above: Sequence[float], below: Sequence[float]) -> float:
    """Area under the ROC curve: probability that a random one of `above` exceeds a random one of `below`.

    Args:
        above: Scores of what should score high; NaN is left out.
        below: Scores of what should score low, likewise.

    Returns:
        In [0, 1]; ties count half. NaN where a side has no score at all.

    Example:
        >>> auc([3.0, 2.0], [1.0, 2.0])
        0.875
    """
    from scipy.stats import mannwhitneyu

    high, low = _known(above), _known(below)
    if not high or not low:
        return math.nan
    # Only the statistic is used; the asymptotic method is the cheapest one for the p-value beside it.
    wins = mannwhitneyu(high, low, method="asymptotic").statistic
    return float(wins) / (len(high) * len(low))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; equal values share the mean of their ranks.

    Args:
        first: N values; a pair with a NaN is left out.
        second: As many.

    Returns:
        In [-1, 1]; NaN where fewer than three pairs are left, or one side is constant.

    Example:
        >>> spearman([0.0, 0.5, 1.0], [9.0, 4.0, 1.0])
        -1.0
    """
    from scipy.stats import spearmanr

    return _rank_correlation(first, second, spearmanr)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's rank correlation, tau-b.

    Args:
        first: N values; a pair with a NaN is left out.
        second: As many.

    Returns:
        In [-1, 1]; NaN where fewer than three pairs are left, or one side is constant.

    Example:
        >>> kendall_tau([1.0, 2.0, 3.0], [5.0, 6.0, 7.0])
        1.0
    """
    from scipy.stats import kendalltau

    return _rank_correlation(first, second, kendalltau)


def _rank_correlation(first: Sequence[float], second: Sequence[float], correlate: Callable[..., Any]) -> float:
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if not (math.isnan(a) or math.isnan(b))]
    if len(pairs) < 3:
        return math.nan
    x, y = zip(*pairs, strict=True)
    if len(set(x)) == 1 or len(set(y)) == 1:
        return math.nan
    return float(correlate(x, y).statistic)


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN where nothing is left."""
    known = _known(values)
    return sum(known) / len(known) if known else math.nan


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]
