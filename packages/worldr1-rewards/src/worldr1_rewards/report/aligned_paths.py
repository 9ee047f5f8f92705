"""Commanded and estimated camera path in one frame and unit, so that they can be drawn over each other."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from worldr1_core.camera.geometry import DEFAULT_FOCAL_FACTOR, pose
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.pages.scene import ScenePath


class AlignedPath(ScenePath):
    """One path, ready to draw: float64 poses seen from the first camera, in scene depths."""

    __slots__ = ()

    @property
    def positions(self) -> Tensor:
        """Camera centres, `(T, 3)` in scene depths."""
        return self.c2w[:, :3, 3]

    @property
    def forward(self) -> Tensor:
        """Viewing directions, `(T, 3)`."""
        return self.c2w[:, :3, 2]

    @property
    def yaw(self) -> Tensor:
        """Turn to the right since frame 0 in degrees, unwrapped."""
        angle = torch.atan2(self.forward[:, 0], self.forward[:, 2])
        steps = torch.remainder(angle.diff() + math.pi, 2 * math.pi) - math.pi
        return torch.rad2deg(torch.cat([torch.zeros_like(angle[:1]), steps.cumsum(0)]))

    @property
    def pitch(self) -> Tensor:
        """Turn downwards in degrees."""
        return torch.rad2deg(torch.asin(self.forward[:, 1].clamp(-1, 1)))

    @property
    def travel(self) -> Tensor:
        """Distance from the first camera, in scene depths."""
        return (self.positions - self.positions[0]).norm(dim=-1)


def align_paths(
    estimated: CameraTrajectory | None, commanded: CameraTrajectory | None
) -> tuple[list[AlignedPath], bool]:
    """Bring one or two paths into the frame of their first camera and the unit of scene depths.

    Args:
        estimated: Path that the reconstruction found, or `None`.
        commanded: Path that the prompt or a file asks for, or `None`.

    Returns:
        The paths there are, the commanded one first, and whether the commanded path, which then names no unit, was
        scaled to the estimate.
    """
    found = None if estimated is None else _align("estimated", estimated)
    if commanded is None:
        return ([found] if found else []), False
    wanted = _align("commanded", commanded)
    fitted = commanded.scene_depth is None and found is not None and float(wanted.travel.max()) > 0
    if fitted and found is not None:
        ratio = float(found.travel.max() / wanted.travel.max())
        wanted = replace(wanted, c2w=pose(wanted.c2w[:, :3, :3], wanted.positions * ratio))
    return [wanted, *([found] if found else [])], fitted


def _align(name: str, trajectory: CameraTrajectory) -> AlignedPath:
    relative = trajectory.relative()
    half_angle, aspect = math.atan(0.5 / DEFAULT_FOCAL_FACTOR), 9 / 16
    if trajectory.image_size is not None:
        aspect = trajectory.image_size[0] / trajectory.image_size[1]
        if trajectory.intrinsics is not None:
            half_angle = math.atan(0.5 * trajectory.image_size[1] / float(trajectory.intrinsics[0, 0]))
    c2w = pose(relative.rotations, relative.positions / (trajectory.scene_depth or 1.0))
    return AlignedPath(name, c2w, half_angle, aspect)
