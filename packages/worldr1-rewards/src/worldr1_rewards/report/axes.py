"""Small SVG panels that take the page's colours, light or dark: axes with round ticks, and what is drawn on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from worldr1_rewards.report.markup import text

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


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Three to six round numbers inside a range."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def grid(axes: Axes, x_label: str, y_label: str, *, whole_x: bool = False) -> str:
    """Grid lines at round ticks, their numbers, and what the axes mean."""
    floor, ceiling = HEIGHT - BOTTOM, TOP
    out = ['<g stroke="currentColor" stroke-opacity=".13">']
    words = ['<g fill="currentColor" fill-opacity=".72" font-size="10.5">']
    for tick in _ticks(*axes.x, whole=whole_x):
        x = axes.at(tick, axes.y[0])[0]
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ceiling}" y2="{floor}"/>')
        words.append(f'<text x="{x:.1f}" y="{floor + 14}" text-anchor="middle">{_label(tick)}</text>')
    for tick in _ticks(*axes.y):
        y = axes.at(axes.x[0], tick)[1]
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        words.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_label(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    words.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{text(x_label)}</text>')
    if y_label:
        centre = (ceiling + floor) / 2
        words.append(
            f'<text x="11" y="{centre}" text-anchor="middle" transform="rotate(-90 11 {centre})">{text(y_label)}</text>'
        )
    return "".join([*out, "</g>", *words, "</g>"])


def _label(tick: float) -> str:
    return f"{tick:g}".replace("-", "−")


def svg_panel(title: str, description: str, body: str) -> str:
    """One panel with its title, and in words what it shows."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(description)}" '
        'font-family="system-ui,sans-serif">'
        f'<text x="{LEFT}" y="16" font-size="12.5" font-weight="600" fill="currentColor">{text(title)}</text>'
        f"{body}</svg>"
    )
