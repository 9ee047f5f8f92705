"""The top of the report: how the run went at a glance, and one sortable row a clip."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from worldr1_core.reward import Score
from worldr1_rewards.report.markup import breakable, json_for_attribute, score_text, text
from worldr1_rewards.report.pictures import data_uri, to_image
from worldr1_rewards.report.views import resize
from worldr1_rewards.scoring import ClipScores

THUMBNAIL_HEIGHT = 72
_THUMBNAIL_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """What the table keeps of a clip."""

    index: int
    name: str
    prompt: str
    thumbnail: str
    scores: Mapping[str, Score]
    total: float
    total_reason: str | None


def summary_row(index: int, result: ClipScores) -> SummaryRow:
    """Reduce a result to its row."""
    frame = result.clip.video.frames[:1].cpu()
    height, width = frame.shape[-2:]
    size = (THUMBNAIL_HEIGHT, min(3 * THUMBNAIL_HEIGHT, max(1, round(width * THUMBNAIL_HEIGHT / height))))
    thumbnail = data_uri(to_image(resize(frame, size)), max_bytes=_THUMBNAIL_BYTES)
    scores = {name: Score(s.value, reason_of(result, name), s.applicable) for name, s in result.scores.items()}
    total_reason = reason_of(result, "total")
    return SummaryRow(
        index, short_name(result.clip.name), result.clip.prompt, thumbnail, scores, result.total, total_reason
    )


def reason_of(result: ClipScores, name: str) -> str | None:
    """Why a score is missing, without the clip's name before it: the page shows it beside the clip, or counts it."""
    reason = result.reasons.get("total") if name == "total" else result.scores[name].reason
    return None if reason is None else reason.removeprefix(f"{result.clip.name}: ")


def short_name(name: str) -> str:
    """The last part of a clip's name, which may be a path."""
    return PurePath(name).name or name or "clip"


def summary(rows: Sequence[SummaryRow]) -> str:
    """Tiles, notices and the table of a run."""
    if not rows:
        return '<p class="notice">No clip was scored.</p>'
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    columns = {name: [row.scores[name].value if name in row.scores else math.nan for row in rows] for name in names}
    columns["total"] = [row.total for row in rows]
    return _tiles(columns, len(rows)) + _notices(rows) + _table(rows, names, columns)


def _tiles(columns: Mapping[str, Sequence[float]], count: int) -> str:
    tiles = [f'<li class="tile"><span class="label">clips</span><span class="value">{count}</span></li>']
    for name, values in columns.items():
        known = [value for value in values if not math.isnan(value)]
        if known:
            shown = score_text(statistics.fmean(known))
            spread = f"{score_text(min(known))} to {score_text(max(known))}" if len(known) > 1 else "one clip"
        else:
            shown, spread = "—", "no clip has it"
        scored = "" if len(known) in (0, count) else f", {len(known)} of {count} clips"
        css = "tile strong" if name == "total" else "tile"
        tiles.append(
            f'<li class="{css}"><span class="label">mean {text(name)}</span>'
            f'<span class="value">{shown}</span><span class="note">{spread}{scored}</span></li>'
        )
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _notices(rows: Sequence[SummaryRow]) -> str:
    """Every distinct reason for a missing score, with how often it occurs."""
    counts: Counter[tuple[bool, str, str]] = Counter()
    for row in rows:
        for name, score in row.scores.items():
            if score.reason is not None:
                counts[(score.applicable, name, score.reason)] += 1
    if not counts:
        return ""
    without = sum(math.isnan(row.total) for row in rows)
    head = "Some scores are missing" if not without else f"{_clips(without)} of {len(rows)} without a total"
    items = "".join(
        f'<li>{_chip(applicable)} <b>{text(name)}</b>, {_clips(count)}: <span dir="auto">{text(reason)}</span></li>'
        for (applicable, name, reason), count in counts.most_common(12)
    )
    more = len(counts) - 12
    items += f"<li>and {more} more reasons, each beside its clip</li>" if more > 0 else ""
    failed = any(applicable for applicable, _, _ in counts)
    return (
        f'<div class="notice{" warn" if failed else ""}"><p><b>{head}.</b> '
        "A missing score is never counted as zero; a failed one leaves its clip without a total.</p>"
        f"<ul>{items}</ul></div>"
    )


def _chip(applicable: bool) -> str:
    return '<span class="chip warn">failed</span>' if applicable else '<span class="chip">not applicable</span>'


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _table(rows: Sequence[SummaryRow], names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    ranges = {name: _bar_range(values) for name, values in columns.items()}
    heads = [("clip", "Clip", "text"), ("prompt", "Prompt", "text")]
    heads += [("number", name, "number") for name in [*names, "total"]]
    header = "".join(
        f'<th scope="col" class="{css}" data-sort="{kind}"><button type="button">{text(label)}</button></th>'
        for css, label, kind in heads
    )
    body = "".join(_row(row, names, ranges) for row in rows)
    return (
        '<div class="filter" hidden><label for="filter">Find a clip</label>'
        '<input id="filter" type="search" placeholder="name or prompt"></div>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Scores of every clip">'
        '<table id="scores"><caption>Scores of every clip, higher is better. Press a heading to sort.</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: SummaryRow, names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> str:
    name, prompt = text(row.name), text(row.prompt)
    image = f'<img src="{row.thumbnail}" alt="" height="{THUMBNAIL_HEIGHT}">'
    link = f'<a href="#clip-{row.index}">{image}<span dir="auto">{breakable(row.name)}</span></a>'
    cells = [
        f'<th scope="row" class="clip" data-key="{name}">{link}</th>',
        f'<td class="prompt" data-key="{prompt}"><div dir="auto">{prompt or "<i>none</i>"}</div></td>',
    ]
    for column in names:
        score = row.scores.get(column)
        if score is None:
            cells.append('<td class="number" data-key="">not asked</td>')
        else:
            cells.append(_cell(score.value, score.reason, score.applicable, ranges[column]))
    cells.append(_cell(row.total, row.total_reason, True, ranges["total"]))
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: float, reason: str | None, applicable: bool, ends: tuple[float, float]) -> str:
    if math.isnan(value):
        words = "no score" if applicable else "not applicable"
        css = "missing warn" if applicable else "missing"
        return (
            f'<td class="number {css}" data-key="" title="{text(reason or "")}"><span>{words}</span>'
            f'<small dir="auto">{text(reason or "")}</small></td>'
        )
    key, shown = json_for_attribute(value), score_text(value)
    return f'<td class="number" data-key="{key}"><span>{shown}</span>{bar(value, ends)}</td>'


def bar(value: float, ends: tuple[float, float]) -> str:
    """A bar from zero (or the low end, where that lies above) to a value."""
    low, high = ends
    zero = min(max(0.0, low), high)
    start, stop = sorted(((zero - low) / (high - low), (value - low) / (high - low)))
    left, width = 100 * max(0.0, start), 100 * (min(1.0, stop) - max(0.0, start))
    return f'<span class="bar" aria-hidden="true"><i style="left:{left:.1f}%;width:{width:.1f}%"></i></span>'


def _bar_range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of a column's bars: 0 and 1 where every value lies between, else what the values need."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    return (low, high) if low < 0 and high > 0 else (low, 0.0) if low < 0 else (0.0, max(1.0, high))
