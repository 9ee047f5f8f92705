"""Errors of a plane sweep with a gradient in the pixels, for the rewards that sweep along known paths.

The plane of every pixel is a choice without gradient: it is made on detached images, and only the chosen plane is
warped with one. That costs about a sixteenth of warping every plane.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_rewards.rewards.plane_sweep import choose_planes, other_frames
from worldr1_rewards.rewards.single_moves import path_key

LEAST_SHARE = 0.01
"""Share below which the slope of `bounded_power` no longer grows: a root is vertical at 0."""


@dataclass(frozen=True, slots=True)
class Warps:
    """Where M candidate paths look the middle frame of each clip up in the other frames.

    Attributes:
        grid: `(B, M, T - 1, H, W, 2)` for `grid_sample`.
        inside: `(B, M, T - 1, H, W)` booleans; a candidate without any has no error.
    """

    grid: Tensor
    inside: Tensor


def choose_warps(images: Tensor, paths: Sequence[CameraTrajectory]) -> Warps:
    """Warps of one path per clip, M = 1; clips of the same path are swept together.

    Args:
        images: `(B, T, C, H, W)` on which depth is chosen.
        paths: B paths of T poses with `scene_depth`.

    Raises:
        VideoError: The images do not have this form.
        TrajectoryError: A path does not fit.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        groups[path_key(path)].append(index)
    shape = (len(images), images.shape[1] - 1, *images.shape[-2:])
    grid = images.new_empty((*shape, 2), dtype=torch.float32)
    inside = images.new_empty(shape, dtype=torch.bool)
    for indices in groups.values():
        grid[indices], inside[indices] = choose_planes(images[indices], paths[indices[0]])
    return Warps(grid[:, None], inside[:, None])


def choose_best_warps(images: Tensor, paths: Sequence[CameraTrajectory]) -> Warps:
    """Warps of the path that explains each clip best, M = 1.

    Args:
        images: `(B, T, C, H, W)` on which depth and path are chosen.
        paths: What is tried for every clip.

    Raises:
        VideoError: The images do not have this form.
        TrajectoryError: A path does not fit.
    """
    tried = [choose_planes(images, path) for path in paths]
    if len(tried) == 1:
        [(grid, inside)] = tried
        return Warps(grid[:, None], inside[:, None])
    with torch.no_grad():
        errors = [warped_errors(images, Warps(grid[:, None], inside[:, None]))[:, 0] for grid, inside in tried]
        best = torch.stack(errors).nan_to_num(nan=torch.inf).argmin(0).tolist()
    grid, inside = (torch.stack([tried[path][part][clip] for clip, path in enumerate(best)]) for part in (0, 1))
    return Warps(grid[:, None], inside[:, None])


def join_warps(parts: Sequence[Warps]) -> Warps:
    """All candidates of the parts, in order."""
    return Warps(torch.cat([part.grid for part in parts], 1), torch.cat([part.inside for part in parts], 1))


def warped_errors(images: Tensor, warps: Warps) -> Tensor:
    """Mean squared error of every candidate, as `plane_sweep.sweep_error` has it, with a gradient in the images.

    Args:
        images: `(B, T, C, H, W)`.
        warps: M candidates for each of the B clips.

    Returns:
        `(B, M)`; NaN, without a gradient, where a candidate keeps no pixel inside the frames.
    """
    batch, num_frames, _, height, width = images.shape
    candidates = warps.grid.shape[1]
    frames = images[:, other_frames(num_frames)].flatten(0, 1)
    grid = warps.grid.transpose(1, 2).reshape(-1, candidates * height, width, 2)
    warped = functional.grid_sample(frames, grid, align_corners=False, padding_mode="border")
    warped = warped.unflatten(2, (candidates, height)).unflatten(0, (batch, -1))  # (B, T - 1, C, M, H, W)
    middle = images[:, num_frames // 2, None, :, None]
    inside = warps.inside.transpose(1, 2)
    error = ((warped - middle).square().mean(2) * inside).sum((1, 3, 4))
    count = inside.sum((1, 3, 4))
    return torch.where(count > 0, error / count.clamp(min=1), torch.nan)


def bounded_power(share: Tensor, power: float) -> Tensor:
    """A share to a power in (0, 1], 0 below 0; its slope is that at `LEAST_SHARE` at most.

    Args:
        share: Of any shape.
        power: Exponent.
    """
    positive = share.clamp(min=0)
    with torch.no_grad():
        slope = power * positive.clamp(min=LEAST_SHARE) ** (power - 1)
        value = positive**power
    return value + slope * (positive - positive.detach())
