"""Section of one clip in the report: scores with their reasons, player, scene, camera paths, frames and timings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup
from PIL import Image

from worldr1_core.errors import ScoreUnavailable
from worldr1_core.frame_grid import frame_grid
from worldr1_core.pages.encoding import image_uri
from worldr1_core.pages.player import MAX_FRAMES, TILE_SIDE, Stream, player
from worldr1_core.pages.scene import scene_plots
from worldr1_core.pages.words import number, seconds
from worldr1_core.reward import Score
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.off_path import off_path_view
from worldr1_rewards.report.paths import PathDrawing, draw_paths
from worldr1_rewards.report.pictures import (
    DEPTH_MAP,
    ERROR_CEILING,
    ERROR_MAP,
    STRIP_BYTES,
    DepthRange,
    Strip,
    clip_strips,
    map_colours,
)
from worldr1_rewards.report.scene_data import clip_scene
from worldr1_rewards.report.summary import bar, reason_of, short_name
from worldr1_rewards.report.templating import render
from worldr1_rewards.report.views import ClipViews

_ROW_TITLES = {
    "input": "Input",
    "rerender": "Re-render",
    "error": "Absolute error",
    "depth": "Depth",
    "moving": "Motion mask",
}
_OFF_PATH_BYTES = 20 * 1024
_MOST_DETAILS = 6
"""Details of a score that are always in sight; the others unfold, unless they are only one or two."""


def clip_section(
    anchor: str, result: ClipScores, views: ClipViews, *, title: str | None = None, with_total: bool = True
) -> Markup:
    """Section of a clip with pictures and paths.

    Args:
        anchor: Identifier of the section on its page.
        result: Scores of the clip.
        views: Its pictures.
        title: Heading; the clip's name if `None`.
        with_total: Show the total beside the scores.
    """
    reconstruction = result.reconstruction
    paths = draw_paths(None if reconstruction is None else reconstruction.trajectory, result.clip.target)
    missing: dict[str, str | None] = {_ROW_TITLES[name]: reason for name, reason in views.missing.items()}
    off_path, missing["View off the path"] = _off_path(result)
    scene, missing["Point cloud"] = _scene(result)
    return _section(
        anchor,
        result,
        title,
        with_total,
        film=_film(result, views),
        missing=_by_reason(missing),
        off_path=off_path,
        scene=scene,
        paths=paths,
        path_notes=_path_notes(result, paths),
    )


def without_pictures(anchor: str, result: ClipScores) -> Markup:
    """Section of a clip without pictures, for pages that are full."""
    return _section(anchor, result, None, True, film=None)


def _section(anchor: str, result: ClipScores, title: str | None, with_total: bool, **pictures: Any) -> Markup:
    clip = result.clip
    height, width = clip.video.size
    name = short_name(clip.name)
    return render(
        "report_clip.html.j2",
        anchor=anchor,
        name=title or name,
        origin=clip.name if clip.name != name else "",
        prompt=clip.prompt,
        video=f"{clip.video.num_frames} frames, {width} × {height}, {clip.video.fps:g} fps",
        cards=_cards(result, with_total),
        facts=_facts(result),
        **pictures,
    )


def _cards(result: ClipScores, with_total: bool) -> list[dict[str, Any]]:
    total = [_card("total", Score(result.total, reason_of(result, "total")))] if with_total else []
    scores = {name: replace(score, reason=reason_of(result, name)) for name, score in result.scores.items()}
    return [*total, *(_card(name, score) for name, score in scores.items())]


def _card(name: str, score: Score) -> dict[str, Any]:
    state = "" if score.reason is None else "warn" if score.applicable else "muted"
    with_bar = not state and name != "total" and 0 <= score.value <= 1
    details = list(score.details.items())
    num_shown = len(details) if len(details) <= _MOST_DETAILS + 2 else _MOST_DETAILS
    return {
        "name": name,
        "score": score,
        "state": state,
        "bar": bar(score.value, (0.0, 1.0)) if with_bar else None,
        "details": dict(details[:num_shown]),
        "more": dict(details[num_shown:]),
    }


def _film(result: ClipScores, views: ClipViews) -> dict[str, Any]:
    strips = clip_strips(views)
    legends = {row.name: _legend(row.name, strips.depth_range, views) for row in strips.rows}
    return {
        "player": _player(result, views, legends),
        "indices": strips.indices,
        "rows": [_film_row(row, legends[row.name]) for row in strips.rows],
    }


def _by_reason(missing: Mapping[str, str | None]) -> dict[str, str]:
    """Names of what is missing for the same reason in one line, and the reason."""
    names: dict[str, list[str]] = {}
    for name, reason in missing.items():
        if reason is not None:
            names.setdefault(reason, []).append(name)
    return {", ".join(group): reason for reason, group in names.items()}


def _player(result: ClipScores, views: ClipViews, legends: Mapping[str, Markup]) -> Markup:
    moving = clip_strips(views, count=MAX_FRAMES, side=TILE_SIDE)
    return player(
        [Stream(_ROW_TITLES[row.name], row.tiles, legends[row.name]) for row in moving.rows],
        fps=result.clip.video.fps,
        label="Clip and reconstruction",
        numbers=moving.indices,
        num_frames=result.clip.video.num_frames,
    )


def _film_row(row: Strip, legend: Markup) -> dict[str, Any]:
    image = frame_grid([row.tiles], gap=0)
    return {
        "title": _ROW_TITLES[row.name],
        "uri": image_uri(image, max_bytes=STRIP_BYTES),
        "width": image.width,
        "height": image.height,
        "legend": legend,
    }


def _off_path(result: ClipScores) -> tuple[dict[str, Any] | None, str | None]:
    """The view off the path for the page, and why there is none."""
    try:
        view = off_path_view(result)
    except ScoreUnavailable as failure:
        return None, str(failure)
    image: Image.Image = frame_grid([view.picture[None]], gap=0)
    uri = image_uri(image, max_bytes=_OFF_PATH_BYTES)
    return {"uri": uri, "words": view.words, "width": image.width, "height": image.height}, None


def _scene(result: ClipScores) -> tuple[Markup | None, str | None]:
    """The plots that can be turned, and why they have no points."""
    scene, reason = clip_scene(result)
    if not scene.paths:
        return None, reason
    return scene_plots(scene, label=short_name(result.clip.name)), reason


def _legend(name: str, ends: DepthRange | None, views: ClipViews) -> Markup:
    return render(
        "legend.html.j2",
        scale=_scale(name, ends, views),
        coverage=_percent(views.covered) if name == "rerender" else None,
        share=_percent(float(views.moving.mean())) if name == "moving" and views.moving is not None else None,
    )


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
