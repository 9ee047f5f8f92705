"""Top of the report: overview of the run, and one sortable row per clip."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from worldr1_core.frame_grid import frame_grid
from worldr1_core.pages.encoding import image_uri, resize
from worldr1_core.pages.words import score_text
from worldr1_core.reward import Score
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.templating import render

THUMBNAIL_HEIGHT = 72
_THUMBNAIL_BYTES = 4 * 1024
_MOST_REASONS = 12


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One row of the table."""

    index: int
    name: str
    prompt: str
    thumbnail: str
    scores: Mapping[str, Score]
    total: float
    total_reason: str | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from zero to a value, as percentages of its track."""

    left: float
    width: float


def summary_row(index: int, result: ClipScores) -> SummaryRow:
    """Reduce a result to its row."""
    frame = result.clip.video.frames[:1].cpu()
    height, width = frame.shape[-2:]
    size = (THUMBNAIL_HEIGHT, min(3 * THUMBNAIL_HEIGHT, max(1, round(width * THUMBNAIL_HEIGHT / height))))
    thumbnail = image_uri(frame_grid([resize(frame, size)], gap=0), max_bytes=_THUMBNAIL_BYTES)
    scores = {name: Score(s.value, reason_of(result, name), s.applicable) for name, s in result.scores.items()}
    total_reason = reason_of(result, "total")
    return SummaryRow(
        index, short_name(result.clip.name), result.clip.prompt, thumbnail, scores, result.total, total_reason
    )


def reason_of(result: ClipScores, name: str) -> str | None:
    """Return the reason of a missing score without the clip's name, which the page shows beside it."""
    reason = result.reasons.get("total") if name == "total" else result.scores[name].reason
    return None if reason is None else reason.removeprefix(f"{result.clip.name}: ")


def short_name(name: str) -> str:
    """The last part of a clip's name, which may be a path."""
    return PurePath(name).name or name or "clip"


def summary(rows: Sequence[SummaryRow]) -> Markup:
    """Tiles, notices and the table of a run."""
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    columns = {name: [row.scores[name].value if name in row.scores else math.nan for row in rows] for name in names}
    columns["total"] = [row.total for row in rows]
    ranges = {name: _bar_range(values) for name, values in columns.items()}
    return render(
        "report_summary.html.j2",
        tiles=[_tile(name, values) for name, values in columns.items()],
        notice=_notice(rows),
        heads=[("clip", "Clip", "text"), ("prompt", "Prompt", "text"), *(("number", n, "number") for n in columns)],
        rows=[{"clip": row, "cells": _cells(row, names, ranges)} for row in rows],
        thumbnail_height=THUMBNAIL_HEIGHT,
    )


def bar(value: float, ends: tuple[float, float]) -> Bar:
    """A bar from zero (or the low end, where that lies above) to a value."""
    low, high = ends
    zero = min(max(0.0, low), high)
    start, stop = sorted(((zero - low) / (high - low), (value - low) / (high - low)))
    return Bar(100 * max(0.0, start), 100 * (min(1.0, stop) - max(0.0, start)))


def _tile(name: str, values: Sequence[float]) -> dict[str, str]:
    """Mean and range of one score over the clips that have it."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return {"name": name, "mean": "—", "spread": "no clip has it"}
    spread = f"{score_text(min(known))} to {score_text(max(known))}" if len(known) > 1 else "one clip"
    scored = "" if len(known) == len(values) else f", {len(known)} of {len(values)} clips"
    return {"name": name, "mean": score_text(statistics.fmean(known)), "spread": spread + scored}


def _notice(rows: Sequence[SummaryRow]) -> dict[str, Any] | None:
    """Every distinct reason for a missing score, with how often it occurs; `None` where no score is missing."""
    counts: Counter[tuple[bool, str, str]] = Counter()
    for row in rows:
        for name, score in row.scores.items():
            if score.reason is not None:
                counts[(score.applicable, name, score.reason)] += 1
    if not counts:
        return None
    without = sum(math.isnan(row.total) for row in rows)
    return {
        "head": f"{_clips(without)} of {len(rows)} without a total" if without else "Some scores are missing",
        "failed": any(applicable for applicable, _, _ in counts),
        "reasons": [
            {"failed": applicable, "name": name, "clips": _clips(count), "reason": reason}
            for (applicable, name, reason), count in counts.most_common(_MOST_REASONS)
        ],
        "num_more": max(0, len(counts) - _MOST_REASONS),
    }


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _cells(row: SummaryRow, names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> list[Any]:
    """Scores of a clip in the order of the columns; `None` where a reward was not asked for."""
    scores = [row.scores.get(name) for name in names]
    total = Score(row.total, row.total_reason)
    ends = [ranges[name] for name in [*names, "total"]]
    return [None if s is None else _cell(s, e) for s, e in zip([*scores, total], ends, strict=True)]


def _cell(score: Score, ends: tuple[float, float]) -> dict[str, Any]:
    if math.isnan(score.value):
        return {"missing": "no score" if score.applicable else "not applicable", "reason": score.reason or ""}
    return {"missing": "", "key": json.dumps(score.value), "value": score.value, "bar": bar(score.value, ends)}


def _bar_range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of a column's bars: 0 and 1 where every value lies between, else what the values need."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    return (low, high) if low < 0 and high > 0 else (low, 0.0) if low < 0 else (0.0, max(1.0, high))
