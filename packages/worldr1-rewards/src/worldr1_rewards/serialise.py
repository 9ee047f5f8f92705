"""The JSON line of a scored clip."""

from __future__ import annotations

import json
import math
from typing import Any

from worldr1_core.provenance import versions
from worldr1_core.scoring import ClipScores

_LINE_SEPARATORS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\u0085\u2028\u2029"}


def score_record(result: ClipScores) -> dict[str, Any]:
    """A result as plain data: `video`, `prompt`, `scores`, `total`, `reasons`, `timings`, `details`, `versions`.

    A missing score is `None`, and `reasons` says why.
    """
    return {
        "video": result.clip.name,
        "prompt": result.clip.prompt,
        "scores": {name: _number(score.value) for name, score in result.scores.items()},
        "total": _number(result.total),
        "reasons": dict(result.reasons),
        "timings": {name: round(seconds, 4) for name, seconds in result.timings.items()},
        "details": {name: _plain(score.details) for name, score in result.scores.items() if score.details},
        "versions": versions(),
    }


def score_line(result: ClipScores) -> str:
    """`score_record` as one line of strict JSON.

    Characters that some readers take for the end of a line, and those that UTF-8 cannot express (lone surrogates, as in
    names of files that are no UTF-8), are written as escapes.
    """
    line = json.dumps(score_record(result), ensure_ascii=False, allow_nan=False).translate(_LINE_SEPARATORS)
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _plain(value: Any) -> Any:
    """Plain JSON values: mappings and sequences are walked, NaN becomes `None`, other objects their text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
