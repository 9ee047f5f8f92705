"""Symmetric reprojection of neighbouring frames: each frame looked up in its neighbour by depth and pose, and back.

Pure functions on tensors; the reward `consistency` gives them a scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose, scale_intrinsics
from worldr1_rewards.metrics import shrink
from worldr1_rewards.reconstructors.pyramid import blur

SIDE = 64
"""Shorter side in pixels at which frames are compared, so that the score is independent of the resolution."""
SMOOTHING = 0.8
"""Standard deviation in pixels of the blur before the comparison: a look-up between pixels is itself a small blur."""
OCCLUSION = 0.1
"""A surface that lies behind the neighbour's own depth by more than this share of it is hidden there."""
BORDER = 1.0
"""Pixels at the neighbour's border that are not looked up."""
VARIANCE_FLOOR = 1e-4
"""Variance of a picture without texture, so that its noise is not magnified."""
MIN_OVERLAP = 0.1
"""Least share of a frame that must be visible in its neighbour for the pair to count."""


@dataclass(frozen=True, slots=True)
class Reprojection:
    """Agreement of neighbouring frames.

    Attributes:
        unexplained: `(P,)` error of each pair over the variance of its visible pixels, the mean of both directions; NaN
            where the frames share less than `MIN_OVERLAP`.
        overlap: `(P,)` share of pixels that are visible in the neighbour, the mean of both directions.
        shift: Mean distance by which the cameras move a visible pixel between neighbours, as a share of the width.
        variance: Mean variance of the visible pixels.
    """

    unexplained: Tensor
    overlap: Tensor
    shift: float
    variance: float


def reproject_neighbours(
    frames: Tensor,
    depth: Tensor,
    c2w: Tensor,
    intrinsics: Tensor,
    *,
    stride: int,
    left_out: Tensor | None = None,
) -> Reprojection:
    """Compare every frame with the one `stride` later, in both directions.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1], T > stride.
        depth: `(T, H, W)` z-depth, positive; ignored by a camera that only turns.
        c2w: `(T, 4, 4)` camera-to-world in the unit of `depth`.
        intrinsics: `(3, 3)` in pixels of `frames`.
        stride: Frames between neighbours, >= 1.
        left_out: `(T, H, W)` bool, pixels that are not compared; `None` for none.
    """
    full = int(frames.shape[-2]), int(frames.shape[-1])
    small = blur(shrink(frames, torch.ones_like(frames[:, 0]), SIDE)[0], SMOOTHING)
    size = int(small.shape[-2]), int(small.shape[-1])
    depth = functional.interpolate(depth[:, None].to(small), size=size, mode="nearest-exact")[:, 0]
    matrix = scale_intrinsics(intrinsics.double(), full, size).to(small)
    w2c = invert_pose(c2w.double())
    kept = None
    if left_out is not None:
        kept = 1 - functional.interpolate(left_out[:, None].to(small), size=size, mode="area").ceil()[:, 0]
    pairs = [(first, first + stride) for first in range(len(frames) - stride)]
    both = []
    for order in (1, -1):
        sources, goals = zip(*(pair[::order] for pair in pairs), strict=True)
        motion = (w2c[list(goals)] @ c2w.double()[list(sources)]).to(small)
        both.append(_one_way(small, depth, motion, matrix, sources, goals, kept))
    error, overlap, shift, variance = (torch.stack(parts) for parts in zip(*both, strict=True))
    usable = (overlap >= MIN_OVERLAP).all(0)
    return Reprojection(
        unexplained=torch.where(usable, (error / (variance + VARIANCE_FLOOR)).mean(0), torch.nan),
        overlap=overlap.mean(0),
        shift=float(shift[:, usable].mean()) / size[1] if bool(usable.any()) else 0.0,
        variance=float(variance[:, usable].mean()) if bool(usable.any()) else 0.0,
    )


def _one_way(
    frames: Tensor,
    depth: Tensor,
    motion: Tensor,
    intrinsics: Tensor,
    sources: Sequence[int],
    goals: Sequence[int],
    kept: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared error, overlap, shift in pixels and variance `(P,)` of the sources, looked up in the goals."""
    height, width = frames.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=frames.device) + 0.5, torch.arange(width, device=frames.device) + 0.5, indexing="ij"
    )
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(frames) @ torch.linalg.inv(intrinsics).T
    points = rays * depth[list(sources)][..., None]
    seen = points @ motion[:, None, :3, :3].transpose(-1, -2) + motion[:, None, None, :3, 3]
    z = seen[..., 2]
    pixel = (seen / z.clamp(min=1e-6)[..., None]) @ intrinsics.T
    grid = torch.stack([2 * pixel[..., 0] / width - 1, 2 * pixel[..., 1] / height - 1], dim=-1)
    there = _look_up(depth[list(goals)][:, None], grid, "bilinear")[:, 0]
    inside = (grid[..., 0].abs() < 1 - 2 * BORDER / width) & (grid[..., 1].abs() < 1 - 2 * BORDER / height)
    visible = (inside & (z > 0) & (z <= (1 + OCCLUSION) * there)).to(frames)
    if kept is not None:
        # A pixel beside one that is left out is not looked up either: the look-up reads its neighbours.
        whole = (_look_up(kept[list(goals)][:, None], grid, "bilinear")[:, 0] > 0.999).to(frames)
        visible = visible * kept[list(sources)] * whole
    own = frames[list(sources)]
    count = visible.flatten(1).sum(1).clamp(min=1)
    error = (_look_up(frames[list(goals)], grid, "bicubic") - own).square().mean(1)
    middle = (own * visible[:, None]).flatten(2).sum(2) / count[:, None]
    spread = (own - middle[..., None, None]).square().mean(1)
    moved = torch.hypot(pixel[..., 0] - x, pixel[..., 1] - y)
    error, spread, moved = (
        (torch.where(visible > 0, values, 0.0)).flatten(1).sum(1) / count for values in (error, spread, moved)
    )
    return error, visible.flatten(1).mean(1), moved, spread


def _look_up(images: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
