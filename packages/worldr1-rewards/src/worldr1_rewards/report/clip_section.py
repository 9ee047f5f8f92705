"""One clip's part of the report: scores with their reasons, pictures, camera paths, and where the time went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from worldr1_core.reward import Score
from worldr1_rewards.report.markup import breakable, definitions, number, score_text, seconds, text
from worldr1_rewards.report.paths import draw_paths
from worldr1_rewards.report.pictures import (
    DEPTH_MAP,
    ERROR_CEILING,
    ERROR_MAP,
    DepthRange,
    Strip,
    clip_strips,
    data_uri,
    map_colours,
    to_image,
)
from worldr1_rewards.report.summary import bar, reason_of, short_name
from worldr1_rewards.report.views import ClipViews
from worldr1_rewards.scoring import ClipScores

_ROW_TITLES = {"input": "Input", "rerender": "Re-render", "error": "Absolute error", "depth": "Depth"}


def clip_section(index: int, result: ClipScores, views: ClipViews) -> str:
    """A clip with everything there is to see.

    Args:
        index: Number of the clip on the page, from 1.
        result: Its scores.
        views: Its pictures.
    """
    return _section(index, result, _film(result, views) + _paths(result) + _more(result))


def without_pictures(index: int, result: ClipScores) -> str:
    """A clip of which the page, being full, shows numbers and words only."""
    note = '<p class="note">Pictures are left out from here on: the page would become too large to open.</p>'
    return _section(index, result, note + _more(result))


def _section(index: int, result: ClipScores, body: str) -> str:
    clip = result.clip
    height, width = clip.video.size
    name = short_name(clip.name)
    origin = f'<span class="origin">{breakable(clip.name)}</span> · ' if clip.name != name else ""
    form = f"{clip.video.num_frames} frames, {width} × {height}, {clip.video.fps:g} fps"
    prompt = text(clip.prompt) if clip.prompt.strip() else "<i>No prompt</i>"
    return (
        f'<article class="clip" id="clip-{index}" aria-labelledby="name-{index}"><header>'
        f'<h2 id="name-{index}" dir="auto">{breakable(name)}</h2><a class="up" href="#top">Summary ↑</a>'
        f'<p class="prompt" dir="auto">{prompt}</p>'
        f'<p class="note">{origin}{form}</p></header>'
        f"{_cards(result)}{body}</article>"
    )


def _cards(result: ClipScores) -> str:
    total = Score(result.total, reason_of(result, "total"))
    cards = [_card("total", total, "card strong", "Weighted sum of the scores that apply")]
    for name, score in result.scores.items():
        cards.append(_card(name, replace(score, reason=reason_of(result, name)), "card"))
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _card(name: str, score: Score, css: str, note: str = "") -> str:
    if score.reason is None:
        bars = bar(score.value, (0.0, 1.0)) if 0 <= score.value <= 1 and not note else ""
        value = f'<span class="value">{score_text(score.value)}</span>{bars}'
    else:
        word, state = ("No score", "warn") if score.applicable else ("Not applicable", "muted")
        css += f" missing {state}"
        value = f'<span class="value">{word}</span><p class="reason" dir="auto">{text(score.reason)}</p>'
    words = f'<p class="note">{note}</p>' if note and score.reason is None else ""
    return f'<li class="{css}"><h3>{text(name)}</h3>{value}{words}{definitions(score.details)}</li>'


def _film(result: ClipScores, views: ClipViews) -> str:
    strips = clip_strips(views)
    numbers = "".join(f"<span>{index}</span>" for index in strips.indices)
    rows = "".join(_film_row(row, strips.indices, strips.depth_range, views) for row in strips.rows)
    missing = "".join(
        f'<p class="absent"><b>{_ROW_TITLES[name]}:</b> not shown, because <span dir="auto">{text(reason)}</span>.</p>'
        for name, reason in views.missing.items()
    )
    return (
        f'<h3>Frames</h3><div class="scroll film" tabindex="0" role="region" aria-label="Frames of the clip">'
        f'<div class="rows" style="--n:{len(strips.indices)}">'
        f'<div class="frames"><span class="sr">Frames</span>{numbers}</div>{rows}</div></div>{missing}'
    )


def _film_row(row: Strip, indices: Sequence[int], ends: DepthRange | None, views: ClipViews) -> str:
    image = to_image(row.tiles)
    title = _ROW_TITLES[row.name]
    alt = f"{title} of frames {', '.join(map(str, indices))}, side by side"
    return (
        f"<figure><figcaption><b>{title}</b>{_legend(row.name, ends, views)}</figcaption>"
        f'<div class="strip"><img src="{data_uri(image)}" alt="{alt}" width="{image.width}" height="{image.height}">'
        "</div></figure>"
    )


def _legend(name: str, ends: DepthRange | None, views: ClipViews) -> str:
    if name == "rerender":
        return f'<span class="legend">coverage {_percent(views.covered)}<i class="hole"></i>not covered</span>'
    if name == "error" and views.error is not None:
        mean = float(views.error.nanmean())
        words = f"mean {number(mean)}, " if math.isfinite(mean) else ""
        return _scale("0", ERROR_MAP, f"{ERROR_CEILING:g} or more", f"{words}of colours from 0 to 1")
    if name == "depth" and ends is not None:
        words = f"middle {number(ends.middle, 2)}, in scene depths"
        return _scale(f"far {number(ends.far, 2)}", DEPTH_MAP, f"near {number(ends.near, 2)}", words)
    return ""


def _scale(low: str, name: str, high: str, words: str) -> str:
    """A colour map between the values at its ends."""
    ramp = f'<i class="ramp" style="background:linear-gradient(90deg,{",".join(map_colours(name, 9))})"></i>'
    return f'<span class="legend"><span class="ends">{low}{ramp}{high}</span><span>{words}</span></span>'


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.1f} %"


def _paths(result: ClipScores) -> str:
    reconstruction, target = result.reconstruction, result.clip.target
    drawing = draw_paths(None if reconstruction is None else reconstruction.trajectory, target)
    notes = []
    if reconstruction is None:
        notes.append("Nothing was estimated, because there is no reconstruction of this clip.")
    elif not reconstruction.has_parallax:
        notes.append("No parallax: the video shows turns only, so that the estimated travel is not determined.")
    if target is None:
        notes.append("No camera path is commanded.")
    if drawing.fitted:
        notes.append("The commanded path names no unit; it is drawn at the size of the estimate.")
    legend = "".join(f'<span class="key {name}"><i></i>{name}</span>' for name in drawing.names)
    panels = "".join(f"<div>{panel}</div>" for panel in drawing.panels)
    words = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return f'<h3>Camera path <span class="legend">{legend}</span></h3>{words}<div class="panels">{panels}</div>'


def _more(result: ClipScores) -> str:
    """What few need, folded away: diagnostics, intrinsics, timings."""
    blocks = []
    if result.reconstruction is not None and result.reconstruction.diagnostics:
        blocks.append(f"<h4>Reconstruction</h4>{definitions(result.reconstruction.diagnostics)}")
    blocks.append(f"<h4>Camera</h4>{definitions(_camera(result))}")
    if result.timings:
        blocks.append(f"<h4>Time</h4>{definitions({name: seconds(value) for name, value in result.timings.items()})}")
    return f"<details><summary>Diagnostics and timings</summary>{''.join(blocks)}</details>"


def _camera(result: ClipScores) -> Mapping[str, str]:
    facts = {
        "intrinsics": "known"
        if result.clip.intrinsics is not None
        else "unknown: estimated or guessed, see focal_source"
    }
    if result.reconstruction is not None:
        trajectory = result.reconstruction.trajectory
        if trajectory.intrinsics is not None:
            fx, fy = float(trajectory.intrinsics[0, 0]), float(trajectory.intrinsics[1, 1])
            facts["focal length"] = f"{fx:.1f} × {fy:.1f} px"
        facts["parallax"] = "yes" if result.reconstruction.has_parallax else "no"
        unit = trajectory.scene_depth or 1.0
        facts["travel"] = f"{number(trajectory.extent / unit)} scene depths"
        facts["turn"] = f"{number(trajectory.rotation_extent, 2)}°"
    return facts
