"""Scenes that a reader can turn: camera paths and a coloured point cloud, drawn on canvases of an HTML page.

Positions are written with 16 bits and directions with three digits, which is finer than a screen. Axes are those of
OpenCV: x right, y down, z forward.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from worldr1_core.camera.geometry import quaternion_from_matrix
from worldr1_core.pages.templating import SHARED

MAX_POSES = 121
"""Longer paths are written with evenly spaced poses."""
_LEVELS = 2**16 - 1
_SMALLEST_RADIUS = 0.03
"""Least radius of what a plot of paths shows, so that the tremor of a fixed camera does not look like a journey."""


@dataclass(frozen=True, slots=True)
class ScenePath:
    """One camera path.

    Attributes:
        name: `"commanded"` or `"estimated"`; it chooses the colour.
        c2w: `(T, 4, 4)` poses.
        half_angle: Half of the horizontal field of view, in radians.
        aspect: Height over width of the image.
    """

    name: str
    c2w: Tensor
    half_angle: float
    aspect: float


@dataclass(frozen=True, slots=True)
class PointCloud:
    """Coloured points.

    Attributes:
        positions: `(N, 3)` in the frame and unit of the paths.
        colours: `(N, 3)` RGB in [0, 1].
    """

    positions: Tensor
    colours: Tensor


@dataclass(frozen=True, slots=True)
class Scene:
    """Camera paths and points in one frame and unit.

    Attributes:
        paths: Camera paths of one clip.
        points: Point cloud, or `None`.
        unit: Unit of length in words.
    """

    paths: Sequence[ScenePath]
    points: PointCloud | None = None
    unit: str = "scene depths"


def scene_plots(scene: Scene, *, label: str) -> Markup:
    """Plots of a scene: its points with the cameras if it has points, and its paths if it has any.

    Args:
        scene: What to draw.
        label: Name of the plots for screen readers.
    """
    plots = []
    if scene.points is not None:
        plots.append({"fit": "points", "title": "Reconstruction", **_view(scene.points.positions, robust=True)})
    if scene.paths:
        centres = torch.cat([path.c2w[:, :3, 3] for path in scene.paths])
        plots.append({"fit": "paths", "title": "Camera paths", **_view(centres, robust=False)})
    return SHARED.render(
        "scene.html.j2",
        label=label,
        description=_describe(scene),
        data=json.dumps(_as_data(scene), separators=(",", ":")),
        plots=plots,
        unit=scene.unit,
        names=[path.name for path in scene.paths],
        has_points=scene.points is not None,
    )


def _describe(scene: Scene) -> str:
    words = [f"{len(path.c2w)} {path.name} cameras" for path in scene.paths]
    if scene.points is not None:
        words.insert(0, f"{len(scene.points.positions)} points")
    return ", ".join(words)


def _view(points: Tensor, *, robust: bool) -> dict[str, Any]:
    """Centre and radius of what a plot shows; a robust one leaves out a few far points."""
    points = points.double()
    low, high = points.amin(0), points.amax(0)
    if robust:
        low, high = torch.quantile(points, torch.tensor([0.1, 0.9], dtype=points.dtype), dim=0)
    radius = max(float((high - low).norm()) / 2, _SMALLEST_RADIUS)
    return {"centre": _rounded((low + high) / 2, 4), "radius": round(radius, 4)}


def _as_data(scene: Scene) -> dict[str, Any]:
    return {
        "paths": [_path(path) for path in scene.paths],
        "points": None if scene.points is None else _points(scene.points),
    }


def _path(path: ScenePath) -> dict[str, Any]:
    chosen = torch.linspace(0, len(path.c2w) - 1, min(len(path.c2w), MAX_POSES)).round().long()
    c2w = path.c2w[chosen].double()
    return {
        "name": path.name,
        "frames": chosen.tolist(),
        "positions": _rounded(c2w[:, :3, 3], 4),
        "quaternions": _rounded(quaternion_from_matrix(c2w[:, :3, :3]), 4),
        "reach": [round(math.tan(path.half_angle), 4), round(math.tan(path.half_angle) * path.aspect, 4)],
    }


def _points(points: PointCloud) -> dict[str, Any]:
    positions = points.positions.double()
    low, high = positions.amin(0), positions.amax(0)
    step = (high - low).clamp(min=1e-9) / _LEVELS
    levels = ((positions - low) / step).round().clamp(0, _LEVELS).numpy().astype("<u2")
    colours = (points.colours.clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    return {
        "count": len(positions),
        "low": low.tolist(),
        "step": step.tolist(),
        "data": base64.b64encode(levels.tobytes() + colours.tobytes()).decode("ascii"),
    }


def _rounded(values: Tensor, digits: int) -> Any:
    # Adding 0 turns -0.0 into 0.0.
    return (torch.round(values.double(), decimals=digits) + 0.0).tolist()
