"""Section of one clip in the report: scores with their reasons, pictures, camera paths and timings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from worldr1_core.frame_grid import frame_grid
from worldr1_core.reward import Score
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.paths import PathDrawing, draw_paths
from worldr1_rewards.report.pictures import (
    DEPTH_MAP,
    ERROR_CEILING,
    ERROR_MAP,
    DepthRange,
    Strip,
    clip_strips,
    data_uri,
    map_colours,
)
from worldr1_rewards.report.summary import bar, reason_of, short_name
from worldr1_rewards.report.templating import render
from worldr1_rewards.report.views import ClipViews
from worldr1_rewards.report.words import number, seconds

_ROW_TITLES = {"input": "Input", "rerender": "Re-render", "error": "Absolute error", "depth": "Depth"}


def clip_section(index: int, result: ClipScores, views: ClipViews) -> Markup:
    """Section of a clip with pictures and paths.

    Args:
        index: Number of the clip on the page, from 1.
        result: Its scores.
        views: Its pictures.
    """
    reconstruction = result.reconstruction
    paths = draw_paths(None if reconstruction is None else reconstruction.trajectory, result.clip.target)
    return _section(index, result, film=_film(views), paths=paths, path_notes=_path_notes(result, paths))


def without_pictures(index: int, result: ClipScores) -> Markup:
    """Section of a clip without pictures, for pages that are full."""
    return _section(index, result, film=None)


def _section(index: int, result: ClipScores, **pictures: Any) -> Markup:
    clip = result.clip
    height, width = clip.video.size
    name = short_name(clip.name)
    return render(
        "report_clip.html.j2",
        index=index,
        name=name,
        origin=clip.name if clip.name != name else "",
        prompt=clip.prompt,
        video=f"{clip.video.num_frames} frames, {width} × {height}, {clip.video.fps:g} fps",
        cards=_cards(result),
        facts=_facts(result),
        **pictures,
    )


def _cards(result: ClipScores) -> list[dict[str, Any]]:
    total = Score(result.total, reason_of(result, "total"))
    scores = {name: replace(score, reason=reason_of(result, name)) for name, score in result.scores.items()}
    return [_card("total", total), *(_card(name, score) for name, score in scores.items())]


def _card(name: str, score: Score) -> dict[str, Any]:
    state = "" if score.reason is None else "warn" if score.applicable else "muted"
    with_bar = not state and name != "total" and 0 <= score.value <= 1
    return {"name": name, "score": score, "state": state, "bar": bar(score.value, (0.0, 1.0)) if with_bar else None}


def _film(views: ClipViews) -> dict[str, Any]:
    strips = clip_strips(views)
    return {
        "indices": strips.indices,
        "rows": [_film_row(row, strips.depth_range, views) for row in strips.rows],
        "missing": {_ROW_TITLES[name]: reason for name, reason in views.missing.items()},
    }


def _film_row(row: Strip, ends: DepthRange | None, views: ClipViews) -> dict[str, Any]:
    image = frame_grid([row.tiles], gap=0)
    return {
        "title": _ROW_TITLES[row.name],
        "uri": data_uri(image),
        "width": image.width,
        "height": image.height,
        "coverage": _percent(views.covered) if row.name == "rerender" else None,
        "scale": _scale(row.name, ends, views),
    }


def _scale(name: str, ends: DepthRange | None, views: ClipViews) -> dict[str, Any] | None:
    """The colour map of a row between the values at its ends; `None` for a row without one."""
    if name == "error" and views.error is not None:
        mean = float(views.error.nanmean())
        words = f"mean {number(mean)}, " if math.isfinite(mean) else ""
        colours = map_colours(ERROR_MAP, 9)
        high = f"{ERROR_CEILING:g} or more"
        return {"low": "0", "colours": colours, "high": high, "words": f"{words}of colours from 0 to 1"}
    if name == "depth" and ends is not None:
        colours = map_colours(DEPTH_MAP, 9)
        words = f"middle {number(ends.middle, 2)}, in scene depths"
        low, high = f"far {number(ends.far, 2)}", f"near {number(ends.near, 2)}"
        return {"low": low, "colours": colours, "high": high, "words": words}
    return None


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.1f} %"


def _path_notes(result: ClipScores, drawing: PathDrawing) -> Sequence[str]:
    notes = []
    if result.reconstruction is None:
        notes.append("Nothing was estimated, because there is no reconstruction of this clip.")
    elif not result.reconstruction.has_parallax:
        notes.append("No parallax: the video shows turns only, so that the estimated travel is not determined.")
    if result.clip.target is None:
        notes.append("No camera path is commanded.")
    if drawing.fitted:
        notes.append("The commanded path names no unit; it is drawn at the size of the estimate.")
    return notes


def _facts(result: ClipScores) -> Mapping[str, Mapping[str, Any]]:
    """Collapsed tables of diagnostics, intrinsics and timings."""
    facts: dict[str, Mapping[str, Any]] = {}
    if result.reconstruction is not None and result.reconstruction.diagnostics:
        facts["Reconstruction"] = result.reconstruction.diagnostics
    facts["Camera"] = _camera(result)
    if result.timings:
        facts["Time"] = {name: seconds(value) for name, value in result.timings.items()}
    return facts


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
