"""Text into HTML, with nothing trusted: prompts, names, reasons and plugin details may hold anything."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_DETAIL = 600
"""Characters kept of a plugin's detail; a page does not grow with what a plugin chooses to say."""

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: object) -> str:
    r"""Escaped text for an element or a quoted attribute; control characters and lone surrogates become U+FFFD.

    Example:
        >>> text('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(_UNSAFE.sub("\ufffd", str(value)), quote=True)


def breakable(name: str) -> str:
    """An escaped name that may wrap after its punctuation."""
    return re.sub(r"(?<=[_./\\-])(?=\w)", "<wbr>", text(name))


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


def plain(value: Any) -> str:
    """A detail of any type as one line of unescaped text."""
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


def definitions(items: Mapping[str, Any], css_class: str = "facts") -> str:
    """A definition list; the empty string where there is nothing to define."""
    if not items:
        return ""
    rows = "".join(
        f"<div><dt>{text(plain(key).replace('_', ' '))}</dt><dd>{text(plain(value))}</dd></div>"
        for key, value in items.items()
    )
    return f'<dl class="{css_class}">{rows}</dl>'


def json_for_attribute(value: float) -> str:
    """A number as a sort key; the empty string, which sorts last, where there is none."""
    return json.dumps(value) if math.isfinite(value) else ""
