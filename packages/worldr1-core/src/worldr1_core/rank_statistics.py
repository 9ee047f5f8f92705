"""How well scores separate two groups of clips, and how well they follow a severity.

Both leave out clips without a score; whoever reports them counts those beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


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
    high = [value for value in above if not math.isnan(value)]
    low = [value for value in below if not math.isnan(value)]
    if not high or not low:
        return math.nan
    wins = sum((a > b) + 0.5 * (a == b) for a in high for b in low)
    return wins / (len(high) * len(low))


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
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if not (math.isnan(a) or math.isnan(b))]
    if len(pairs) < 3:
        return math.nan
    ranks = [_ranks([pair[side] for pair in pairs]) for side in (0, 1)]
    middle = (len(pairs) - 1) / 2
    x, y = ([rank - middle for rank in side] for side in ranks)
    spread = math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / spread if spread > 0 else math.nan


def mean(values: Sequence[float]) -> float:
    """Mean of what is no NaN; NaN where nothing is left."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _ranks(values: Sequence[float]) -> list[float]:
    below = [sum(other < value for other in values) for value in values]
    return [b + (values.count(value) - 1) / 2 for b, value in zip(below, values, strict=True)]
