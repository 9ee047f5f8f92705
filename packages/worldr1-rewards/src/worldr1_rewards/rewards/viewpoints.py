"""Viewpoints off a camera's path from which a reconstruction can be looked at.

A camera sees its scene from the front; a flat stage set looks right from there. So candidates leave the path sideways
and upwards on arcs around what the camera looks at, and the best is the one that is far from every camera of the path
and still sees much of what the clip showed. From too far off, one only sees what was never filmed. (The authors'
release takes the path's own camera farthest from the origin; that view is one the clip has already been made for.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldr1_core.camera.geometry import (
    default_intrinsics,
    invert_pose,
    pose,
    rotation_y,
    scale_intrinsics,
)
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Reconstruction

_PROBE_SIDE = 96
"""Side of the pictures in which candidates are compared; coverage needs no more."""


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """A candidate camera.

    Attributes:
        c2w: `(4, 4)` float64 in the frame and unit of the reconstruction.
        frame: Index of the frame whose camera was moved.
        direction: `"left"`, `"right"` or `"up"`.
        angle: Degrees of arc around the point that the camera looks at.
        distance: Distance to the nearest camera of the path, in scene depths.
        coverage: Share of the probe picture that the scene accounts for, in [0, 1].
    """

    c2w: Tensor
    frame: int
    direction: str
    angle: float
    distance: float
    coverage: float = 0.0

    @property
    def merit(self) -> float:
        """Value of the view for the judge: coverage × distance."""
        return self.coverage * self.distance


def rank_viewpoints(
    reconstruction: Reconstruction, image_size: tuple[int, int], *, max_angle: float, min_coverage: float
) -> list[Viewpoint]:
    """Candidates that see enough of the scene, the most revealing first.

    Args:
        reconstruction: Scene and path.
        image_size: `(H, W)` of the clip.
        max_angle: Longest arc, degrees; half of it is tried too.
        min_coverage: Least share of a view that the scene must account for, in [0, 1].

    Raises:
        ScoreUnavailable: No candidate sees that much.
    """
    candidates = [view for view in _candidates(reconstruction, max_angle) if _in_free_space(reconstruction, view)]
    if not candidates:
        raise ScoreUnavailable("Every viewpoint off the camera's path lies behind a surface of the reconstruction.")
    side = min(_PROBE_SIDE, max(image_size))
    intrinsics = square_intrinsics(reconstruction, image_size, side)
    render = reconstruction.render(torch.stack([view.c2w for view in candidates]), intrinsics, (side, side))
    shares = torch.nan_to_num(render.coverage.float()).clamp(0, 1).mean(dim=(-1, -2)).tolist()
    covered = [replace(view, coverage=share) for view, share in zip(candidates, shares, strict=True)]
    enough = [view for view in covered if view.coverage >= min_coverage]
    if not enough:
        raise ScoreUnavailable(
            f"No viewpoint off the camera's path sees enough of the reconstruction: the best is covered to "
            f"{max(shares):.0%}, {min_coverage:.0%} is needed."
        )
    return sorted(enough, key=lambda view: view.merit, reverse=True)


def square_intrinsics(reconstruction: Reconstruction, image_size: tuple[int, int], side: int) -> Tensor:
    """Intrinsics of a square picture that sees as far as the clip's shorter side, `(3, 3)` in pixels of the square."""
    trajectory = reconstruction.trajectory
    height, width = trajectory.image_size or image_size
    clip = default_intrinsics(height, width) if trajectory.intrinsics is None else trajectory.intrinsics
    focal = float(max(clip[0, 0] / width, clip[1, 1] / height)) * side
    half = side / 2
    return torch.tensor([[focal, 0.0, half], [0.0, focal, half], [0.0, 0.0, 1.0]], dtype=torch.float64)


def scene_depth(reconstruction: Reconstruction, frame: int = 0) -> float:
    """Median depth of what a frame shows, in the trajectory's unit."""
    if reconstruction.depth is not None:
        depth = reconstruction.depth[frame]
        valid = depth[torch.isfinite(depth) & (depth > 0)]
        if valid.numel():
            return float(valid.median())
    return reconstruction.trajectory.scene_depth or 1.0


def _candidates(reconstruction: Reconstruction, max_angle: float) -> Iterator[Viewpoint]:
    """Arcs around what the first, the middle and the last camera look at; cameras that coincide are taken once."""
    trajectory = reconstruction.trajectory
    unit = scene_depth(reconstruction)
    frames = sorted({0, trajectory.num_frames // 2, trajectory.num_frames - 1})
    for frame in frames:
        pivot = torch.tensor([0.0, 0.0, scene_depth(reconstruction, frame)], dtype=torch.float64)
        for angle in (max_angle / 2, max_angle):
            turns = {"left": rotation_y(angle), "right": rotation_y(-angle), "up": _rotation_x(-angle)}
            for direction, turn in turns.items():
                c2w = trajectory.c2w[frame] @ pose(turn, pivot - turn @ pivot)
                distance = float((trajectory.positions - c2w[:3, 3]).norm(dim=-1).min()) / unit
                yield Viewpoint(c2w, frame, direction, angle, distance)


def _rotation_x(degrees: float) -> Tensor:
    """Rotation about x (right), `(3, 3)`; a positive angle turns the view upwards, as y points down."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]], dtype=torch.float64)


def _in_free_space(reconstruction: Reconstruction, view: Viewpoint) -> bool:
    """Return True if a camera that has the viewpoint in its image sees at least as far, or if no camera has it."""
    trajectory, depth = reconstruction.trajectory, reconstruction.depth
    if depth is None or trajectory.intrinsics is None:
        return True
    height, width = depth.shape[-2:]
    intrinsics = scale_intrinsics(trajectory.intrinsics, trajectory.image_size or (height, width), (height, width))
    world = torch.cat([view.c2w[:3, 3], view.c2w.new_ones(1)])
    points = (invert_pose(trajectory.c2w) @ world)[:, :3]
    seen = []
    for frame, point in enumerate(points):
        if point[2] <= 0:
            continue
        x, y, _ = (intrinsics @ point / point[2]).tolist()
        if 0 <= x < width and 0 <= y < height:
            seen.append(float(point[2]) <= float(depth[frame, int(y), int(x)]))
    return any(seen) or not seen
