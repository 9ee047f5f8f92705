"""Pictures of camera paths: seen from above and in perspective, with the cameras drawn as frusta."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import OutputError, TrajectoryError, require, suggest
from worldr1_core.files import atomic_path

SUFFIXES = (".png", ".svg")
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
        OutputError: The suffix is unknown or the place cannot be written to.
        MissingExtraError: matplotlib is not installed.
    """
    if not trajectories:
        raise TrajectoryError("There is nothing to draw: received no trajectory. Give at least one.")
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        suffix = Path(path).suffix.lower()
        raise OutputError(f"{path}: cannot draw {suffix!r}. Allowed: {list(SUFFIXES)}.{suggest(suffix, SUFFIXES)}")
    figure = require("matplotlib.figure", extra=_EXTRA).Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    above = figure.add_subplot(1, 2, 1)
    perspective = figure.add_subplot(1, 2, 2, projection="3d")
    centre, radius = _bounds(trajectories.values())
    for index, (label, trajectory) in enumerate(trajectories.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        style = {"color": colour, "zorder": 3 + index}
        # Later paths are drawn thinner, so that one on top of another leaves both in sight.
        width = max(3.2 - 1.4 * index, 1.2)
        _draw(above, trajectory, label, style, width, 0.16 * radius, _from_above)
        _draw(perspective, trajectory, label, style, width, 0.16 * radius, _z_up)
    _dress(above, perspective, centre, radius)
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    if title:
        figure.suptitle(title)
    if path is not None:
        _save(figure, Path(path))
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


def _bounds(trajectories: Any) -> tuple[NDArray[np.float64], float]:
    """Centre and half side of the cube that holds every path and its frusta."""
    points = torch.cat([trajectory.positions for trajectory in trajectories])
    low, high = points.amin(0), points.amax(0)
    spread = float((high - low).max()) / 2
    return ((low + high) / 2).numpy(), 1.25 * spread if spread > 0 else 1.0


def _dress(above: Any, perspective: Any, centre: NDArray[np.float64], radius: float) -> None:
    x, z, up = centre[0], centre[2], -centre[1]
    above.set(xlabel="x (right)", ylabel="z (forward)", title="from above", aspect="equal")
    above.set_xlim(x - radius, x + radius)
    above.set_ylim(z - radius, z + radius)
    above.grid(color="0.9", linewidth=0.8)
    above.set_axisbelow(True)
    above.spines[["top", "right"]].set_visible(False)
    perspective.set(xlabel="x (right)", ylabel="z (forward)", zlabel="-y (up)", title="in perspective")
    perspective.set_xlim(x - radius, x + radius)
    perspective.set_ylim(z - radius, z + radius)
    perspective.set_zlim(up - radius, up + radius)
    perspective.set_box_aspect((1, 1, 1))
    perspective.view_init(elev=28, azim=-62)
    perspective.tick_params(labelsize=7)
    for axis in (perspective.xaxis, perspective.yaxis, perspective.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower()[1:], facecolor="white")
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(buffer.getvalue())
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error}.") from error
