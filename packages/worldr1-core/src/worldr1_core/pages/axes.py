"""Small SVG panels in the page's colours, light or dark: axes with round ticks, and shapes on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from torch import Tensor

from worldr1_core.pages.templating import SHARED

WIDTH, HEIGHT = 340, 264
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 30, 34


@dataclass(frozen=True, slots=True)
class Axes:
    """Data ranges of a panel and where they lie in it."""

    x: tuple[float, float]
    y: tuple[float, float]
    y_down: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Drawing coordinates of a data point."""
        across = LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
        share = (y - self.y[0]) / (self.y[1] - self.y[0])
        if not self.y_down:
            share = 1 - share
        return across, TOP + share * (HEIGHT - TOP - BOTTOM)

    def line(self, xs: Tensor, ys: Tensor) -> str:
        """Points of a polyline."""
        points = (self.at(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


@dataclass(frozen=True, slots=True)
class Shape:
    """An SVG element without content, e.g. a `polyline` with its `points`."""

    tag: str
    attributes: Mapping[str, str]


def draw_panel(
    title: str,
    description: str,
    axes: Axes,
    shapes: Sequence[Shape],
    *,
    x_label: str,
    y_label: str = "",
    whole_x: bool = False,
) -> Markup:
    """One panel: title, grid lines at round ticks with their numbers, and shapes over them.

    Args:
        title: Above the drawing.
        description: Text alternative of the drawing.
        axes: Its ranges.
        shapes: Elements, in the coordinates of `Axes.at`.
        x_label: Meaning of the horizontal axis.
        y_label: Meaning of the vertical axis; left out if empty.
        whole_x: Put ticks of the horizontal axis at whole numbers only.

    Returns:
        A complete `<svg>` element.
    """
    across = [(axes.at(tick, axes.y[0])[0], tick) for tick in _ticks(*axes.x, whole=whole_x)]
    upwards = [(axes.at(axes.x[0], tick)[1], tick) for tick in _ticks(*axes.y)]
    return SHARED.render(
        "panel.svg.j2",
        title=title,
        description=description,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        x_ticks=[{"at": f"{x:.1f}", "label": _label(tick)} for x, tick in across],
        y_ticks=[{"at": f"{y:.1f}", "baseline": f"{y + 3.5:.1f}", "label": _label(tick)} for y, tick in upwards],
        x_label=x_label,
        y_label=y_label,
        shapes=shapes,
    )


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Three to six round numbers inside a range."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _label(tick: float) -> str:
    return f"{tick:g}".replace("-", "−")
