"""How well does a given camera path explain a clip? Re-rendering by plane sweep under known poses.

The middle frame is swept through planes of constant depth into every other frame. Depth is chosen pixel by pixel on
half of the frames and judged on the other half, and the other way round, so that a path gains nothing by freedom alone.
No pose is estimated: a path that is wrong explains the frames badly whatever the depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import default_intrinsics, invert_pose, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, VideoError

NUM_PLANES = 16
NEAREST, FARTHEST = 0.3, 2.4
"""Depths that are swept, in scene depths, evenly in inverse depth."""
WINDOW = 9
"""Side of the window of local mean and contrast, in pixels."""
CONTRAST_FLOOR = 0.03
"""Contrast below which a patch counts as textureless, of the range [0, 1]."""
COST_WINDOW = 5
"""Side of the window over which the cost of a depth is averaged, in pixels."""
MAX_PSNR = 60.0


@torch.no_grad()
def sweep_error(images: Tensor, trajectory: CameraTrajectory) -> Tensor:
    """Mean squared error of the judged frames, each re-rendered into the middle frame's view.

    Args:
        images: `(B, T, C, H, W)`, any range; T >= 3.
        trajectory: T poses with `scene_depth`; unknown intrinsics take the default guess (focal length 1.2 x width).

    Returns:
        `(B,)` over the pixels that some plane keeps inside the frames; NaN where there is none. A path without
        translation is swept with a single plane.

    Raises:
        VideoError: The images do not have this form.
        TrajectoryError: The trajectory has another number of poses, or no `scene_depth`.
    """
    total, count = (part.sum((1, 2)) for part in sweep_error_maps(images, trajectory))
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan)


@torch.no_grad()
def sweep_error_maps(images: Tensor, trajectory: CameraTrajectory) -> tuple[Tensor, Tensor]:
    """What `sweep_error` takes the mean of: pixel by pixel of the middle frame, summed over the judged frames.

    Args:
        images: As `sweep_error` takes them.
        trajectory: As `sweep_error` takes it.

    Returns:
        Sum of squared errors `(B, H, W)`, and the number of frames that it is the sum over.

    Raises:
        VideoError: The images do not have this form.
        TrajectoryError: The trajectory has another number of poses, or no `scene_depth`.
    """
    if images.ndim != 5 or images.shape[1] < 3:
        raise VideoError(f"A sweep needs images (B, T, C, H, W) with T >= 3, received shape {tuple(images.shape)!r}.")
    if trajectory.num_frames != images.shape[1]:
        raise TrajectoryError(
            f"The trajectory has {trajectory.num_frames} poses, the clips {images.shape[1]} frames. "
            "Give one pose per frame."
        )
    batch, num_frames, _, height, width = images.shape
    middle = num_frames // 2
    grid, inside = (part.to(images.device) for part in _sweep_grid(trajectory, (height, width), middle))
    others = [t for t in range(num_frames) if t != middle]
    errors = torch.stack(
        [_error_of_frame(images[:, t], images[:, middle], grid[k]) for k, t in enumerate(others)]
    )  # (T - 1, B, D, H, W)
    odd = torch.arange(len(others)) % 2 == 1
    total = images.new_zeros(batch, height, width)
    count = images.new_zeros(batch, height, width)
    for choose, judge in ((odd, ~odd), (~odd, odd)):
        plane = _best_plane(errors[choose], inside[choose])  # (B, 1, H, W)
        index = plane.expand(int(judge.sum()), batch, 1, height, width)
        known = inside[judge][:, None].expand(-1, batch, -1, -1, -1).gather(2, index)
        total += (errors[judge].gather(2, index) * known).sum((0, 2))
        count += known.sum((0, 2))
    return total, count


def match_paths(frames: Tensor, candidates: Sequence[CameraTrajectory]) -> Tensor:
    """How well each path explains each clip, on pixels without local mean and contrast.

    Args:
        frames: `(B, T, 3, H, W)` RGB in [0, 1].
        candidates: M paths of T poses with `scene_depth`.

    Returns:
        `(B, M)` PSNR in dB of the re-rendered, normalised pixels (their variance is 1); higher is better, at most
        `MAX_PSNR`.

    Raises:
        VideoError: The frames do not have this form.
        TrajectoryError: A path does not fit.
    """
    normal = normalise_local_contrast(frames)
    return torch.stack([to_psnr(sweep_error(normal, path)) for path in candidates], dim=1)


def normalise_local_contrast(frames: Tensor) -> Tensor:
    """Luminance minus its local mean, over its local standard deviation: neither blur nor brightness decides.

    Args:
        frames: `(B, T, 3, H, W)` RGB in [0, 1].

    Returns:
        `(B, T, 1, H, W)`, mostly in [-2, 2].

    Raises:
        VideoError: The frames do not have this form, or a side is smaller than the window.
    """
    if frames.ndim != 5 or frames.shape[2] != 3 or min(frames.shape[-2:]) < WINDOW:
        raise VideoError(
            f"Frames must be (B, T, 3, H, W) with sides of at least {WINDOW}, received shape {tuple(frames.shape)!r}."
        )
    luma = (frames.float() * torch.tensor([0.299, 0.587, 0.114], device=frames.device).view(3, 1, 1)).sum(2)
    flat = luma.flatten(0, 1)[:, None]
    centred = flat - _box(flat, WINDOW, "reflect")
    normal = centred / (_box(centred.square(), WINDOW, "reflect") + CONTRAST_FLOOR**2).sqrt()
    return normal.unflatten(0, luma.shape[:2])


def to_psnr(error: Tensor) -> Tensor:
    """Mean squared errors as PSNR in dB for a peak of 1; NaN stays NaN."""
    return -10 * torch.log10(error.clamp(min=10 ** (-MAX_PSNR / 10)))


def _error_of_frame(frame: Tensor, reference: Tensor, grid: Tensor) -> Tensor:
    """Squared error `(B, D, H, W)` of a frame `(B, C, H, W)` warped by every plane of `grid` `(D, H, W, 2)`."""
    planes, height, width, _ = grid.shape
    flat = grid.reshape(1, planes * height, width, 2).expand(frame.shape[0], -1, -1, -1)
    warped = functional.grid_sample(frame, flat, align_corners=False, padding_mode="border")
    warped = warped.unflatten(2, (planes, height))
    return (warped - reference[:, :, None]).square().mean(1)


def _best_plane(errors: Tensor, inside: Tensor) -> Tensor:
    """Index `(B, 1, H, W)` of the plane that the choosing frames agree on."""
    votes = inside.sum(0)
    cost = (errors * inside[:, None]).sum(0) / votes.clamp(min=1)
    cost = _box(cost, COST_WINDOW, "replicate")
    return torch.where(votes > 0, cost, torch.inf).argmin(1, keepdim=True)


def _sweep_grid(trajectory: CameraTrajectory, size: tuple[int, int], middle: int) -> tuple[Tensor, Tensor]:
    """Where each plane's pixels of the middle frame lie in the other frames.

    Returns:
        Grids `(T - 1, D, H, W, 2)` for `grid_sample`, and `(T - 1, D, H, W)` 1 where they fall inside.
    """
    if trajectory.scene_depth is None:
        raise TrajectoryError("A sweep needs the depth of the scene: set scene_depth of the trajectory, received None.")
    height, width = size
    K = _intrinsics(trajectory, size)
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5 - K[1, 2]) / K[1, 1], (torch.arange(width) + 0.5 - K[0, 2]) / K[0, 0], indexing="ij"
    )
    planes = NUM_PLANES if trajectory.extent > 0 else 1  # a camera that only turns sees every depth alike
    depth = trajectory.scene_depth / torch.linspace(1 / FARTHEST, 1 / NEAREST, planes, dtype=torch.float64)
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
    points = rays * depth.view(-1, 1, 1, 1)
    motion = invert_pose(trajectory.c2w) @ trajectory.c2w[middle]
    keep = [t for t in range(trajectory.num_frames) if t != middle]
    moved = torch.einsum("tij,dhwj->tdhwi", motion[keep, :3, :3], points) + motion[keep][:, None, None, None, :3, 3]
    z = moved[..., 2:]
    seen = z.clamp(min=1e-6 * trajectory.scene_depth)
    u = (moved[..., :1] / seen * K[0, 0] + K[0, 2]) * (2 / width) - 1
    v = (moved[..., 1:2] / seen * K[1, 1] + K[1, 2]) * (2 / height) - 1
    grid = torch.cat([u, v], dim=-1).clamp(-9, 9).float()
    in_front = z[..., 0] > 0.02 * trajectory.scene_depth
    return grid, ((grid.abs().amax(-1) < 1) & in_front).float()


def _intrinsics(trajectory: CameraTrajectory, size: tuple[int, int]) -> Tensor:
    if trajectory.intrinsics is None or trajectory.image_size is None:
        return default_intrinsics(*size)
    return scale_intrinsics(trajectory.intrinsics, trajectory.image_size, size)


def _box(images: Tensor, side: int, mode: str) -> Tensor:
    """Box means `(N, C, H, W)` of the same size."""
    pad = side // 2
    return functional.avg_pool2d(functional.pad(images, (pad,) * 4, mode=mode), side, 1)
