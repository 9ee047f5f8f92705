"""Camera paths as small SVG drawings that take the page's colours, light or dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from markupsafe import Markup
from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.frame_grid import pick_frames
from worldr1_core.pages.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, Shape, draw_panel
from worldr1_core.pages.words import number
from worldr1_rewards.report.aligned_paths import AlignedPath, align_paths
from worldr1_rewards.report.templating import render

_NUM_CAMERAS = 5
_COLOURS = {"commanded": "var(--commanded,#0072b2)", "estimated": "var(--estimated,#d55e00)"}
_LINES = {
    # A broad pale band under a thin line: both stay in sight where they coincide.
    "commanded": {"fill": "none", "stroke-width": "6", "stroke-opacity": ".4", "stroke": _COLOURS["commanded"]},
    "estimated": {"fill": "none", "stroke-width": "2", "stroke": _COLOURS["estimated"]},
}
_SMALLEST_VIEW = 0.1
"""Least width of the map in scene depths, so that the tremor of a fixed camera does not look like a journey."""


@dataclass(frozen=True, slots=True)
class PathDrawing:
    """Drawings of a clip's camera paths.

    Attributes:
        panels: Complete `<svg>` elements, to be put side by side: a map from above, turn and travel over time.
        names: Which paths are drawn: `"commanded"`, `"estimated"`.
        fitted: Whether the commanded path, which names no unit, was scaled to the estimate for the drawing.
    """

    panels: list[Markup]
    names: list[str]
    fitted: bool


def draw_paths(estimated: CameraTrajectory | None, commanded: CameraTrajectory | None) -> PathDrawing:
    """Draw one or two camera paths, both seen from their first camera and measured in scene depths.

    Args:
        estimated: Path that the reconstruction found, or `None`.
        commanded: Path that the prompt or a file asks for, or `None`.
    """
    paths, fitted = align_paths(estimated, commanded)
    if not paths:
        return PathDrawing([], [], False)
    panels = [_map_panel(paths, "Seen from above", axis=2, caption="forward")]
    height = max(float(path.positions[:, 1].abs().max()) for path in paths)
    if height > max(0.05, 0.1 * max(float(path.travel.max()) for path in paths)):
        panels.append(_map_panel(paths, "Seen from behind", axis=1, caption="down"))
    panels.append(_chart_panel(paths, "Turn to the right, degrees", lambda path: path.yaw, 2.0))
    if max(float(path.pitch.abs().max()) for path in paths) > 2.0:
        panels.append(_chart_panel(paths, "Turn downwards, degrees", lambda path: path.pitch, 2.0))
    panels.append(_chart_panel(paths, "Distance from the start, scene depths", lambda path: path.travel, 0.02))
    return PathDrawing(panels, [path.name for path in paths], fitted)


def standalone_svg(drawing: PathDrawing) -> str:
    """The panels in a row over their legend, as the text of an SVG file with a white ground."""
    lines = {name: _LINES[name] for name in drawing.names}
    picture = render("paths.svg.j2", panels=drawing.panels, lines=lines, width=WIDTH, height=HEIGHT, left=LEFT)
    return f"{picture}\n"


def _map_panel(paths: Sequence[AlignedPath], title: str, *, axis: int, caption: str) -> Markup:
    """A map of the camera centres: x to the right, `axis` upwards (or downwards, for the image's own y)."""
    axes = _equal_axes([path.positions[:, [0, axis]] for path in paths], y_down=axis == 1)
    shapes = []
    reach = 0.09 * (axes.x[1] - axes.x[0])
    for path in paths:
        xs, ys = path.positions[:, 0], path.positions[:, axis]
        shapes.append(Shape("polyline", {"points": axes.line(xs, ys), **_LINES[path.name]}))
        for frame in pick_frames(len(xs), _NUM_CAMERAS):
            if axis == 2:
                shapes.append(_camera(path, frame, axes, reach))
            else:
                shapes.append(_dot(axes.at(float(xs[frame]), float(ys[frame])), path.name, 2.5))
        shapes.append(_dot(axes.at(float(xs[0]), float(ys[0])), path.name, 4))
    ends = "; ".join(
        f"{path.name} ends {_amount(float(path.positions[-1, 0]))} to the right and "
        f"{_amount(float(path.positions[-1, axis]))} {caption}"
        for path in paths
    )
    description = f"Camera path, {title.lower()}, in scene depths: {ends}."
    return draw_panel(title, description, axes, shapes, x_label="right, scene depths", y_label=caption)


def _camera(path: AlignedPath, frame: int, axes: Axes, reach: float) -> Shape:
    """The wedge of a camera's field of view."""
    x, _, z = path.positions[frame].tolist()
    heading = math.atan2(float(path.forward[frame, 0]), float(path.forward[frame, 2]))
    corners = [
        axes.at(x + reach * math.sin(heading + side), z + reach * math.cos(heading + side))
        for side in (-path.half_angle, path.half_angle)
    ]
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in (axes.at(x, z), *corners))
    colour = _COLOURS[path.name]
    return Shape("polygon", {"points": points, "fill": colour, "fill-opacity": ".12", "stroke": colour})


def _dot(place: tuple[float, float], name: str, radius: float) -> Shape:
    centre = {"cx": f"{place[0]:.1f}", "cy": f"{place[1]:.1f}"}
    return Shape("circle", {**centre, "r": str(radius), "fill": _COLOURS[name]})


def _chart_panel(
    paths: Sequence[AlignedPath], title: str, values: Callable[[AlignedPath], Tensor], least: float
) -> Markup:
    """A measure over the frames; `least` is the smallest span of its axis."""
    series = [values(path) for path in paths]
    low = min(0.0, *(float(line.min()) for line in series))
    high = max(0.0, *(float(line.max()) for line in series))
    pad = max(0.06 * (high - low), (least - (high - low)) / 2, 1e-6)
    last = max(len(line) for line in series) - 1
    axes = Axes((0.0, max(1.0, float(last))), (low - pad, high + pad))
    shapes = []
    for path, line in zip(paths, series, strict=True):
        frames = torch.arange(len(line), dtype=torch.float64)
        shapes.append(Shape("polyline", {"points": axes.line(frames, line), **_LINES[path.name]}))
    ends = "; ".join(f"{p.name} ends at {_amount(float(line[-1]))}" for p, line in zip(paths, series, strict=True))
    description = f"{title}, over {last + 1} frames: {ends}."
    return draw_panel(title, description, axes, shapes, x_label="frame", whole_x=True)


def _equal_axes(points: Sequence[Tensor], *, y_down: bool) -> Axes:
    """Ranges in which both directions have the same scale and every path fits."""
    everything = torch.cat(list(points))
    low, high = everything.amin(0), everything.amax(0)
    middle = (low + high) / 2
    inner = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
    span = high - low
    unit = 1.3 * max(float(span[0]) / inner[0], float(span[1]) / inner[1], _SMALLEST_VIEW / inner[1])
    half = (unit * inner[0] / 2, unit * inner[1] / 2)
    x, y = middle.tolist()
    return Axes((x - half[0], x + half[0]), (y - half[1], y + half[1]), y_down)


def _amount(value: float) -> str:
    return number(round(value, 4) + 0.0)  # rounding noise is no travel, and -0 is 0
