"""Pictures of camera paths: seen from above and in perspective, with the cameras drawn as frusta."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, require
from worldr1_core.figures import check_figure_suffix, save_figure

_EXTRA = "worldr1-core[plot]"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito: safe for colour-blind
_FRUSTA = 7
_HALF_WIDTH, _HALF_HEIGHT = 0.45, 0.3  # of a frustum, over its depth


def plot_trajectories(
    trajectories: Mapping[str, CameraTrajectory],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
) -> Any:
    """Draw camera paths over each other, in the frame and unit in which they are given.

    Left, the view from above (x to the right, z forward is up); right, in perspective. Both have equal axes. A dot
    marks the first camera, a square the last. Align an estimate to its target first if its scale is arbitrary.

    Args:
        trajectories: Label -> path, e.g. `{"commanded": ..., "estimated": ...}`; at least one.
        path: `.png` or `.svg` file to write; only the figure is made when left out.
        title: Heading of the figure.

    Returns:
        The `matplotlib.figure.Figure`, independent of pyplot and of any backend.

    Raises:
        TrajectoryError: There is nothing to draw.
        OutputError: The suffix is unknown or the target cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    if not trajectories:
        raise TrajectoryError("There is nothing to draw: received no trajectory. Give at least one.")
    if path is not None:
        check_figure_suffix(Path(path))
    figure = require("matplotlib.figure", extra=_EXTRA).Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    above = figure.add_subplot(1, 2, 1)
    perspective = figure.add_subplot(1, 2, 2, projection="3d")
    scene = _Scene.around(list(trajectories.values()))
    for index, (label, trajectory) in enumerate(trajectories.items()):
        # Later paths are drawn thinner, so that one on top of another leaves both in sight.
        style = {"color": _COLOURS[index % len(_COLOURS)], "zorder": 3 + index}
        width = max(3.2 - 1.4 * index, 1.2)
        _draw(above, trajectory, label, style, width, scene.frustum, _from_above)
        _draw(perspective, trajectory, label, style, width, scene.frustum, _z_up)
    _dress_above(above, scene)
    _dress_perspective(perspective, scene)
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    if title:
        figure.suptitle(title)
    if path is not None:
        save_figure(figure, Path(path))
    return figure


def _from_above(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return points[..., 0], points[..., 2]


def _z_up(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Matplotlib's third axis points up: show the camera's x, z and -y."""
    return points[..., 0], points[..., 2], -points[..., 1]


def _draw(
    axes: Any, trajectory: CameraTrajectory, label: str, style: dict[str, Any], width: float, size: float, view: Any
) -> None:
    centres = trajectory.positions.numpy()
    axes.plot(*view(centres), label=label, linewidth=width, solid_capstyle="round", **style)
    axes.plot(*view(centres[:1]), "o", markersize=6, **style)
    axes.plot(*view(centres[-1:]), "s", markersize=6, **style)
    count = min(_FRUSTA, trajectory.num_frames)
    chosen = torch.linspace(0, trajectory.num_frames - 1, count).round().long()
    for c2w in trajectory.c2w[chosen].numpy():
        axes.plot(*view(_frustum(c2w, size)), linewidth=0.9, alpha=0.75, **style)


def _frustum(c2w: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """One polyline `(N, 3)` along all edges of the pyramid that a camera sees."""
    x, y = _HALF_WIDTH * size, _HALF_HEIGHT * size
    apex = [0.0, 0.0, 0.0]
    corners = [[-x, -y, size], [x, -y, size], [x, y, size], [-x, y, size]]
    line = np.array(
        [
            apex,
            corners[0],
            corners[1],
            apex,
            corners[2],
            corners[1],
            corners[2],
            corners[3],
            apex,
            corners[3],
            corners[0],
        ]
    )
    return line @ c2w[:3, :3].T + c2w[:3, 3]


@dataclass(frozen=True, slots=True)
class _Scene:
    """Visible region of the plot: centre and half side of a cube, and the depth to which frusta are drawn."""

    centre: NDArray[np.float64]
    radius: float
    frustum: float
    still: bool

    @classmethod
    def around(cls, trajectories: list[CameraTrajectory]) -> _Scene:
        """The cube around every path and its frusta; if all cameras stay in place, the frusta fill it."""
        c2w = torch.cat([trajectory.c2w for trajectory in trajectories]).numpy()
        spread = float(np.ptp(c2w[:, :3, 3], axis=0).max())
        still = spread < 1e-9
        frustum = 1.0 if still else 0.1 * spread
        points = np.concatenate([_frustum(matrix, frustum) for matrix in c2w])
        low, high = points.min(axis=0), points.max(axis=0)
        return cls((low + high) / 2, 0.54 * float((high - low).max()), frustum, still)


def _dress_above(axes: Any, scene: _Scene) -> None:
    x, z = scene.centre[0], scene.centre[2]
    title = "from above (the camera stays in place)" if scene.still else "from above"
    axes.set(xlabel="x (right)", ylabel="z (forward)", title=title, aspect="equal")
    axes.set_xlim(x - scene.radius, x + scene.radius)
    axes.set_ylim(z - scene.radius, z + scene.radius)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(nbins=6)
    if scene.still:
        axes.tick_params(labelbottom=False, labelleft=False)


def _dress_perspective(axes: Any, scene: _Scene) -> None:
    x, z, up = scene.centre[0], scene.centre[2], -scene.centre[1]
    axes.set(xlabel="x (right)", ylabel="z (forward)", zlabel="-y (up)", title="in perspective")
    axes.set_xlim(x - scene.radius, x + scene.radius)
    axes.set_ylim(z - scene.radius, z + scene.radius)
    axes.set_zlim(up - scene.radius, up + scene.radius)
    axes.set_box_aspect((1, 1, 1), zoom=0.92)
    axes.view_init(elev=30, azim=-62)
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=8, pad=0)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis.line.set_color("0.6")
        if scene.still:
            axis.set_ticklabels([])
