"""Learning curves of one run as panels of an HTML page: every logged value in pale, and their smoothed course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from markupsafe import Markup

from worldr1_core.frame_grid import pick_frames
from worldr1_core.pages.axes import Axes, Shape, draw_panel
from worldr1_core.pages.words import number
from worldr1_train.curves import Curve, smooth, smoothing_width

MOST_POINTS = 240
"""Points of a curve on the page."""
_LINE = {"fill": "none", "stroke": "var(--commanded,#0072b2)"}
_PALE = {**_LINE, "stroke-opacity": ".35", "stroke-width": "1"}
_BOLD = {**_LINE, "stroke-width": "2.2"}


def curve_panels(curves: Mapping[str, Curve]) -> list[Markup]:
    """Draw one panel per curve.

    Args:
        curves: Name -> (steps, values), from `worldr1_train.curves.read_curves`.
    """
    return [_panel(name, steps, values) for name, (steps, values) in curves.items()]


def _panel(name: str, steps: Sequence[int], values: Sequence[float]) -> Markup:
    width = smoothing_width(len(values))
    smoothed = smooth(values, width)
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.05
    axes = Axes((float(min(steps)), float(max(max(steps), min(steps) + 1))), (low - pad, high + pad))
    shapes = [
        Shape("polyline", {"points": _points(axes, steps, line), **style})
        for line, style in ((values, _PALE), (smoothed, _BOLD))
    ]
    description = (
        f"{name} over {len(steps)} logged steps, averaged over {width}: from {number(smoothed[0])} at step "
        f"{steps[0]} to {number(smoothed[-1])} at step {steps[-1]}."
    )
    return draw_panel(name.replace("_", " "), description, axes, shapes, x_label="optimiser step", whole_x=True)


def _points(axes: Axes, steps: Sequence[int], values: Sequence[float]) -> str:
    chosen = pick_frames(len(steps), MOST_POINTS)
    xs = torch.tensor([float(steps[index]) for index in chosen], dtype=torch.float64)
    ys = torch.tensor([values[index] for index in chosen], dtype=torch.float64)
    return axes.line(xs, ys)
