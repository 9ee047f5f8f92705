"""Learning curves of finished or running training runs: one panel per quantity, one line per run, and their mean."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldr1_core.errors import UserError, require
from worldr1_core.figures import check_figure_suffix, save_figure

_LEAST_SMOOTHING, _SMOOTHED_POINTS = 8, 24
_PER_ROW = 3
_COLOUR, _PALE = "#0072B2", "#9ecae1"
_HEAD = ("reward", "reward_gain")
_TAIL = ("reward_std", "kl", "noised_kl", "masked_samples")

Curve = tuple[list[int], list[float]]


def read_curves(run: Path) -> dict[str, Curve]:
    """Read the curves of a run.

    The curves are `reward`, `reward_gain`, the mean of every reward, `reward_std`, `kl`, `noised_kl` and
    `masked_samples`, if they were logged. Stages train on different rewards, so totals of different stages cannot be
    compared: if a run has several, `reward` and `reward_gain` of each are curves of their own, named
    `reward (stage 1)`. An incomplete last line, which a running or killed run may leave, is ignored.

    Args:
        run: Folder with `metrics.jsonl`.

    Returns:
        Name -> (steps, values); steps without a finite value are left out.

    Raises:
        UserError: The file is missing, a line is not a JSON object, or nothing has been logged.
    """
    path = run / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}. Give the output folder of `worldr1 train`.") from error
    logged = [_logged(line, path, number) for number, line in enumerate(lines, 1) if line.endswith("\n")]
    stages = sorted({stage for row in logged if (stage := _stage(row)) is not None})
    curves: dict[str, Curve] = {}
    for row in logged:
        for name, value in _values(row).items():
            if name in _HEAD and len(stages) > 1:
                name = _of_stage(name, _stage(row))
            steps, values = curves.setdefault(name, ([], []))
            steps.append(int(row["step"]))
            values.append(value)
    if not curves:
        raise UserError(f"{str(path)!r} contains no logged step yet. Wait for the first one.")
    first, *others = stages if len(stages) > 1 else [None]
    head, later = ([_of_stage(name, stage) for stage in own for name in _HEAD] for own in ([first], others))
    rewards = sorted(name for name in curves if name not in (*head, *later, *_TAIL))
    return {name: curves[name] for name in (*head, *rewards, *_TAIL, *later) if name in curves}


def reward_curves(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return the totals of the rewards among the result of `read_curves`: of the first stage, if there are several."""
    first = (*_HEAD, *(_of_stage(name, 0) for name in _HEAD))
    return {name: curve for name, curve in curves.items() if name in first}


def plot_curves(runs: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    """Draw the curves of several runs, smoothed over `smoothing_width` steps, in pale colours, and their mean in dark.

    Args:
        runs: Label -> result of `read_curves`; at least one.
        path: `.png` or `.svg` file.

    Raises:
        UserError: `runs` is empty.
        OutputError: The suffix is unknown, or the file cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    if not runs:
        raise UserError("There is nothing to draw: received no run. Give an output folder of `worldr1 train`.")
    check_figure_suffix(path)
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    rows = math.ceil(len(names) / _PER_ROW)
    figure = require("matplotlib.figure", extra="worldr1-train[plot]").Figure(
        figsize=(3.4 * _PER_ROW, 2.5 * rows), dpi=120, layout="constrained"
    )
    panels = figure.subplots(rows, _PER_ROW, squeeze=False).flatten()
    for panel, name in zip(panels, names, strict=False):
        _draw(panel, name, [curves[name] for curves in runs.values() if name in curves])
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.suptitle(", ".join(runs) if len(runs) <= 3 else f"{len(runs)} runs")
    save_figure(figure, path)


def smoothing_width(num_steps: int) -> int:
    """Return the number of logged steps over which a curve is averaged: 8, or a 24th of a long run."""
    return max(_LEAST_SMOOTHING, num_steps // _SMOOTHED_POINTS)


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Average each value with up to `width` - 1 values before it.

    Example:
        >>> smooth([1.0, 3.0, 5.0], 2)
        [1.0, 2.0, 4.0]
    """
    return [float(np.mean(values[max(0, i + 1 - width) : i + 1])) for i in range(len(values))]


def _logged(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        logged = json.loads(line)
        int(logged["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}, line {number}: not the log of a step ({error!r}), received {line[:80]!r}. Remove the line."
        ) from error
    return dict(logged)


def _values(logged: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite values of a line that have a curve."""
    found = {}
    for key, value in logged.items():
        name = key.removeprefix("rewards/").removesuffix("/mean") if key.endswith("/mean") else key
        chosen = (key.startswith("rewards/") and key.endswith("/mean")) or key in (*_HEAD, *_TAIL)
        if chosen and isinstance(value, int | float) and math.isfinite(value):
            found[name] = float(value)
    return found


def _stage(logged: Mapping[str, Any]) -> int | None:
    stage = logged.get("stage")
    return int(stage) if isinstance(stage, int | float) and math.isfinite(stage) else None


def _of_stage(name: str, stage: int | None) -> str:
    return name if stage is None else f"{name} (stage {stage + 1})"


def _draw(panel: Any, name: str, curves: Sequence[Curve]) -> None:
    by_step: dict[int, list[float]] = {}
    for steps, values in curves:
        smoothed = smooth(values, smoothing_width(len(values)))
        panel.plot(steps, smoothed, color=_PALE if len(curves) > 1 else _COLOUR, linewidth=1.2)
        for step, value in zip(steps, smoothed, strict=True):
            by_step.setdefault(step, []).append(value)
    if len(curves) > 1:
        common = [(step, np.mean(values)) for step, values in sorted(by_step.items()) if len(values) == len(curves)]
        panel.plot(*zip(*common, strict=True), color=_COLOUR, linewidth=2)
    panel.set_title(name, fontsize=9)
    panel.set_xlabel("optimiser step", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
