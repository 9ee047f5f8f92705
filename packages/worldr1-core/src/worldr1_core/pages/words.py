"""Numbers, durations and details of any type as short text for reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MAX_DETAIL = 600
"""Characters kept of a plugin's detail; a page does not grow with what a plugin chooses to say."""


def number(value: float, digits: int = 3) -> str:
    """A score or measure for reading, never in exponents unless it must be.

    Example:
        >>> number(0.81234), number(1234.5), number(-2e-7)
        ('0.812', '1234', '-2e-07')
    """
    if not math.isfinite(value):
        return "—"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    decimals = max(0, digits - max(0, len(str(int(abs(value)))) - 1))
    return f"{value:.{decimals}f}"


def score_text(value: float) -> str:
    """A score for reading: like `number`, but what rounds to nothing reads 0.000.

    Example:
        >>> score_text(0.5), score_text(3.9e-6)
        ('0.500', '0.000')
    """
    return number(value) if abs(value) >= 1e-3 else number(round(value, 3) + 0.0)


def seconds(value: float) -> str:
    """A duration for reading, e.g. `12 ms` or `3.4 s`."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def duration(value: float) -> str:
    """A longer duration for reading, in at most two units.

    Example:
        >>> duration(7.2), duration(95), duration(4000), duration(200_000)
        ('7.2 s', '1 min 35 s', '1 h 7 min', '2 d 8 h')
    """
    if value < 60:
        return seconds(value)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    index = next(index for index, (_, length) in enumerate(units) if value >= length)
    (large, long), (small, short) = units[index], units[index + 1]
    count, rest = divmod(round(value / short), long // short)
    return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"


def plain(value: Any) -> str:
    """A detail of any type as one line of text, not escaped."""
    if isinstance(value, bool) or value is None:
        words = {True: "yes", False: "no", None: "none"}[value]
    elif isinstance(value, float):
        words = number(value)
    elif isinstance(value, Mapping):
        words = ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        words = ", ".join(plain(item) for item in value)
    else:
        words = value if isinstance(value, str) else str(value)
    return words if len(words) <= MAX_DETAIL else words[: MAX_DETAIL - 1] + "…"
