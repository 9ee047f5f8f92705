"""How well does a given camera path explain a clip? Re-rendering by plane sweep under known poses.

The middle frame is swept through planes of constant depth into every other frame. Depth is chosen pixel by pixel on
half of the frames and judged on the other half, and the other way round, so that a path gains nothing by freedom alone.
No pose is estimated: a path that is wrong explains the frames badly whatever the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, VideoError
from worldr1_rewards.rewards.sweep_grids import sweep_grid

WINDOW = 9
"""Side of the window of local mean and contrast, in pixels."""
CONTRAST_FLOOR = 0.03
"""Contrast below which a patch counts as textureless, of the range [0, 1]."""
COST_WINDOW = 5
"""Side of the window over which the cost of a depth is averaged, in pixels."""
MAX_PSNR = 60.0

BoxMean: TypeAlias = Callable[[Tensor, int, str], Tensor]
"""`box_mean`, which scores are made with, or `fast_box_mean`."""


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
    grid, inside = _grid_on(images, trajectory)
    batch, _, _, height, width = images.shape
    errors = _plane_errors(images, grid)
    total = images.new_zeros(batch, height, width)
    count = images.new_zeros(batch, height, width)
    for judge, plane in _planes_by_half(errors, inside, box_mean):
        index = plane.expand(len(errors[judge]), batch, 1, height, width)
        known = inside[judge][:, None].expand(-1, batch, -1, -1, -1).gather(2, index)
        total += (errors[judge].gather(2, index) * known).sum((0, 2))
        count += known.sum((0, 2))
    return total, count


@torch.no_grad()
def choose_planes(images: Tensor, trajectory: CameraTrajectory) -> tuple[Tensor, Tensor]:
    """Sampling grid of every judged frame at the planes that the other half of the frames chose.

    Args:
        images: As `sweep_error` takes them.
        trajectory: As `sweep_error` takes it.

    Returns:
        Grids `(B, T - 1, H, W, 2)` for `grid_sample`, and `(B, T - 1, H, W)` booleans that say where they fall inside.

    Raises:
        VideoError: The images do not have this form.
        TrajectoryError: The trajectory has another number of poses, or no `scene_depth`.
    """
    grid, inside = _grid_on(images, trajectory)
    batch, _, _, height, width = images.shape
    if grid.shape[1] == 1:
        return grid[:, 0].expand(batch, -1, -1, -1, -1), inside[:, 0].bool().expand(batch, -1, -1, -1)
    plane = torch.empty(len(grid), batch, height * width, dtype=torch.long, device=images.device)
    for judge, chosen in _planes_by_half(_plane_errors(images, grid), inside, fast_box_mean):
        plane[judge] = chosen.flatten(1)
    shape = len(grid), batch, height, width
    places = torch.view_as_complex(grid).flatten(2).gather(1, plane).view(shape)
    known = inside.flatten(2).gather(1, plane).view(shape)
    return torch.view_as_real(places.transpose(0, 1)), known.bool().transpose(0, 1)


def other_frames(num_frames: int) -> list[int]:
    """Every frame but the middle one."""
    return [t for t in range(num_frames) if t != num_frames // 2]


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


@torch.no_grad()
def rerender_correlation(frames: Tensor, trajectory: CameraTrajectory) -> Tensor:
    """Correlation of the middle frame with the others, re-rendered along a path, without local mean and contrast.

    Unlike an error, it is 0 for frames that have nothing to do with one another, however much the re-render blurs them.

    Args:
        frames: `(B, T, 3, H, W)` RGB in [0, 1].
        trajectory: T poses with `scene_depth`.

    Returns:
        `(B,)` in [-1, 1], pooled over the judged frames; 0 where nothing is seen, or without texture.

    Raises:
        VideoError: The frames do not have this form.
        TrajectoryError: The path does not fit.
    """
    normal = normalise_local_contrast(frames)
    grid, inside = choose_planes(normal, trajectory)
    middle = frames.shape[1] // 2
    others = normal[:, other_frames(frames.shape[1])]
    warped = functional.grid_sample(
        others.flatten(0, 1), grid.flatten(0, 1), align_corners=False, padding_mode="border"
    ).view_as(others)
    reference, weight = normal[:, middle : middle + 1], inside[:, :, None].float()
    product, own, other = (
        (weight * part).sum((1, 2, 3, 4)) for part in (warped * reference, warped.square(), reference.square())
    )
    return product / (own * other).sqrt().clamp(min=1e-9)


def normalise_local_contrast(
    frames: Tensor, *, horizontal_share: Tensor | None = None, box: BoxMean | None = None
) -> Tensor:
    """Luminance minus its local mean, over its local standard deviation: neither blur nor brightness decides.

    Args:
        frames: `(B, T, 3, H, W)` RGB in [0, 1].
        horizontal_share: `(B, H, W)` in [0, 1]: how much of each pixel's local mean is that of its row; the rest is
            that of its column. At 1, structure that is uniform along rows is removed. If `None`, the mean is that of a
            square window.
        box: Averages windows: `box_mean` if `None`, or `fast_box_mean`.

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
    mean = box or box_mean
    if horizontal_share is None:
        centred = flat - mean(flat, WINDOW, "reflect")
    else:
        share = horizontal_share.to(flat).repeat_interleave(frames.shape[1], 0)[:, None]
        centred = flat - share * line_mean(flat, WINDOW, -1) - (1 - share) * line_mean(flat, WINDOW, -2)
    normal = centred / (mean(centred.square(), WINDOW, "reflect") + CONTRAST_FLOOR**2).sqrt()
    return normal.unflatten(0, luma.shape[:2])


def to_psnr(error: Tensor) -> Tensor:
    """Mean squared errors as PSNR in dB for a peak of 1; NaN stays NaN."""
    return -10 * torch.log10(error.clamp(min=10 ** (-MAX_PSNR / 10)))


def _grid_on(images: Tensor, trajectory: CameraTrajectory) -> tuple[Tensor, Tensor]:
    """Grids and a float mask of what is inside, on the device of the images.

    Raises:
        VideoError: The images are not `(B, T, C, H, W)` with T >= 3.
        TrajectoryError: The trajectory has another number of poses, or no `scene_depth`.
    """
    if images.ndim != 5 or images.shape[1] < 3:
        raise VideoError(f"A sweep needs images (B, T, C, H, W) with T >= 3, received shape {tuple(images.shape)!r}.")
    if trajectory.num_frames != images.shape[1]:
        raise TrajectoryError(
            f"The trajectory has {trajectory.num_frames} poses, the clips {images.shape[1]} frames. "
            "Give one pose per frame."
        )
    grid, inside = sweep_grid(trajectory, (images.shape[-2], images.shape[-1]))
    return grid.to(images.device), inside.to(images.device).float()


def _plane_errors(images: Tensor, grid: Tensor) -> Tensor:
    """Squared errors `(T - 1, B, D, H, W)` of every frame at every plane."""
    num_frames = images.shape[1]
    middle = images[:, num_frames // 2]
    frames = other_frames(num_frames)
    return torch.stack([_error_of_frame(images[:, t], middle, grid[k]) for k, t in enumerate(frames)])


def _planes_by_half(errors: Tensor, inside: Tensor, box: BoxMean) -> Iterator[tuple[slice, Tensor]]:
    """Frames that are judged, as a slice of T - 1, and the planes `(B, 1, H, W)` that the other half chose for them."""
    even, odd = slice(0, None, 2), slice(1, None, 2)
    for choose, judge in ((odd, even), (even, odd)):
        yield judge, _best_plane(errors[choose], inside[choose], box)


def _error_of_frame(frame: Tensor, reference: Tensor, grid: Tensor) -> Tensor:
    """Squared error `(B, D, H, W)` of a frame `(B, C, H, W)` warped by every plane of `grid` `(D, H, W, 2)`."""
    planes, height, width, _ = grid.shape
    flat = grid.reshape(1, planes * height, width, 2).expand(frame.shape[0], -1, -1, -1)
    warped = functional.grid_sample(frame, flat, align_corners=False, padding_mode="border")
    warped = warped.unflatten(2, (planes, height))
    return (warped - reference[:, :, None]).square().mean(1)


def _best_plane(errors: Tensor, inside: Tensor, box: BoxMean) -> Tensor:
    """Index `(B, 1, H, W)` of the plane that the choosing frames agree on."""
    votes = inside.sum(0)
    cost = (errors * inside[:, None]).sum(0) / votes.clamp(min=1)
    cost = box(cost, COST_WINDOW, "replicate")
    return torch.where(votes > 0, cost, torch.inf).min(1, keepdim=True).indices


def box_mean(images: Tensor, side: int, mode: str) -> Tensor:
    """Means over square windows, of the same size as the images.

    Args:
        images: `(N, C, H, W)`.
        side: Side of the windows in pixels, odd.
        mode: Padding, of `torch.nn.functional.pad`.
    """
    pad = side // 2
    return functional.avg_pool2d(functional.pad(images, (pad,) * 4, mode=mode), side, 1)


def line_mean(images: Tensor, side: int, dim: int) -> Tensor:
    """Means over windows along one dimension, of the same size as the images, reflected at the borders.

    Args:
        images: `(N, C, H, W)`.
        side: Length of the windows in pixels, odd.
        dim: -1 for windows along rows, -2 along columns.
    """
    pad = side // 2
    padded = functional.pad(images, (pad, pad, 0, 0) if dim == -1 else (0, 0, pad, pad), mode="reflect")
    return _line_sum(padded, side, dim) / side


def fast_box_mean(images: Tensor, side: int, mode: str) -> Tensor:
    """The same up to rounding, forward and backward 6 to 14 times faster on a CPU: shifted copies are added up."""
    padded = functional.pad(images, (side // 2,) * 4, mode=mode)
    return _line_sum(_line_sum(padded, side, -1), side, -2) / side**2


def _line_sum(padded: Tensor, side: int, dim: int) -> Tensor:
    """Sums over whole windows of `side` pixels along one dimension."""
    size = padded.shape[dim] - side + 1
    total = padded.narrow(dim, 0, size).clone()
    for shift in range(1, side):
        total += padded.narrow(dim, shift, size)
    return total
