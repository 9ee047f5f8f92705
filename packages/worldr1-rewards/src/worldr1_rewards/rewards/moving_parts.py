"""Which parts of a clip move by themselves: no static scene explains them, at any depth, but a steady motion does.

Three questions are asked of every pixel, on pictures of 64 pixels on the shorter side:

1. *Is it static?* Frames before and after it are warped to it past planes of many depths with the estimated cameras. A
   static surface agrees with the frames of at least one side at one of the depths, whatever its depth is.
2. *Does it move steadily?* The same patch is searched in an earlier and a later frame, displaced by opposite amounts.
   A rigid object that travels is found; what flickers, melts or appears from nowhere is not.
3. *Does it last?* Pixels around it in most of the neighbouring frames must have answered in the same way.

Pixels that are not static, move steadily and last form the mask. So scores that leave the mask out are taken over the
rigid part of the scene, and what neither stands still nor moves steadily keeps its cost. An object that travels along
the epipolar lines, like a car beside which the camera drives, may look like a static one at another depth; no image
tells them apart.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import default_intrinsics, invert_pose, scale_intrinsics
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_rewards.metrics import shrink
from worldr1_rewards.reconstructors.pyramid import blur, luma
from worldr1_rewards.reconstructors.rigid import pixel_rays

SIDE = 64
"""Shorter side in pixels at which frames are compared."""
SMOOTHING = 0.7
"""Standard deviation in pixels of the blur before the comparison."""
STEPS = 8
"""Neighbours lie an eighth of the clip apart, and a quarter."""
NUM_PLANES = 32
DEPTH_MARGIN = 1.5
"""The planes span the depths of the reconstruction, and this factor beyond them on both sides."""
PATCH = 5
"""Side in pixels of the patches that are compared."""
DISPLACEMENT = 0.35
"""Pixels by which the content of a patch may be off at half agreement."""
NOISE = 0.02
"""Standard deviation of the luminance that counts as noise."""
REACH = 6
"""Largest displacement in pixels that is searched between neighbours."""
NOT_STATIC = 2.0
"""Cost, 1 at half agreement, from which a pixel counts as not static."""
STEADY = 1.0
"""Cost up to which a pixel counts as moving steadily."""
LASTING = 0.6
"""Share of the neighbouring frames that must show motion near a pixel."""
GROWTH = 2
"""Pixels by which the mask is enlarged: the edge of an object mixes it with its background."""
GHOST = 0.05
"""Share of masked colour in a re-rendered pixel from which it is left out, too."""
MAX_SHARE = 0.6
"""Share of moving pixels above which nothing says what the rigid part is."""


class MovingConfig(ComponentConfig):
    """Option of rewards that can be taken over the rigid part of a scene."""

    moving: Literal["count", "mask"] = Field(
        "count", description="Objects that move by themselves count like everything else, or are left out."
    )


@dataclass(frozen=True, slots=True)
class MovingParts:
    """What moves in a clip.

    Attributes:
        mask: `(T, H, W)` bool, True where something moves by itself.
        share: Share of moving pixels.
    """

    mask: Tensor
    share: float


_latest: tuple[weakref.ref[Tensor], weakref.ref[Reconstruction], MovingParts] | None = None
"""The latest result, since several rewards ask about the same clip one after the other."""


def find_moving_parts(frames: Tensor, reconstruction: Reconstruction) -> MovingParts:
    """Find the parts of a clip that move by themselves; the latest result is kept.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1].
        reconstruction: Its cameras, and its depth for the range of depths that are tried.
    """
    global _latest
    latest = _latest
    if latest is not None and latest[0]() is frames and latest[1]() is reconstruction:
        return latest[2]
    found = _find(frames, reconstruction)
    _latest = weakref.ref(frames), weakref.ref(reconstruction), found
    return found


def require_rigid_part(frames: Tensor, reconstruction: Reconstruction) -> MovingParts:
    """Find the parts that move, and make sure that enough is left.

    Args:
        frames: As for `find_moving_parts`.
        reconstruction: As for `find_moving_parts`.

    Raises:
        ScoreUnavailable: So much moves that nothing tells what the rigid part is.
    """
    parts = find_moving_parts(frames, reconstruction)
    if parts.share > MAX_SHARE:
        raise ScoreUnavailable(
            f"{parts.share:.0%} of the clip moves by itself, at most {MAX_SHARE:.0%} may: nothing tells what the rigid "
            "part is"
        )
    return parts


def _find(frames: Tensor, reconstruction: Reconstruction) -> MovingParts:
    size = int(frames.shape[-2]), int(frames.shape[-1])
    if len(frames) < 3:
        return MovingParts(torch.zeros(len(frames), *size, dtype=torch.bool, device=frames.device), 0.0)
    with torch.no_grad():
        images = luma(blur(shrink(frames.detach().float(), torch.ones_like(frames[:, 0]), SIDE)[0], SMOOTHING))
        stride = max(1, round((len(frames) - 1) / STEPS))
        moving = static_cost(images, reconstruction, size, stride) > NOT_STATIC
        moving &= steady_cost(images, stride, where=moving) <= STEADY
        mask = _lasting(moving, stride)
        full = functional.interpolate(mask[:, None].to(frames.dtype), size, mode="nearest-exact")[:, 0] > 0
    return MovingParts(full, float(full.to(torch.float32).mean()))


def as_configured(
    config: MovingConfig, render: Render, frames: Tensor, reconstruction: Reconstruction
) -> tuple[Render, dict[str, float]]:
    """A re-render as the option `moving` asks for it: unchanged, or that of `rigid_render`.

    Args:
        config: Options of the reward.
        render: As for `rigid_render`.
        frames: As for `rigid_render`.
        reconstruction: As for `rigid_render`.

    Returns:
        The re-render, and details of the score: `moving_share` where something may be left out.

    Raises:
        ScoreUnavailable: So much moves that nothing tells what the rigid part is.
    """
    if config.moving == "count":
        return render, {}
    rigid, parts = rigid_render(render, frames, reconstruction)
    return rigid, {"moving_share": parts.share}


def rigid_render(render: Render, frames: Tensor, reconstruction: Reconstruction) -> tuple[Render, MovingParts]:
    """A re-render that covers the rigid part of the scene alone.

    Pixels that move are no longer covered, nor are static ones into which the re-render has drawn something that moved
    past them in other frames, as far as the reconstruction can tell (see `Reconstruction.rerender_frames`).

    Args:
        render: Re-render of the clip.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        reconstruction: Its reconstruction.

    Raises:
        ScoreUnavailable: So much moves that nothing tells what the rigid part is.
    """
    parts = require_rigid_part(frames, reconstruction)
    left_out = parts.mask
    if parts.share > 0:
        left_out = left_out | _ghosts(parts.mask, frames, reconstruction)
    coverage = render.coverage * ~left_out.to(render.coverage.device)
    return Render(render.frames, coverage, render.depth), parts


def _ghosts(mask: Tensor, frames: Tensor, reconstruction: Reconstruction) -> Tensor:
    """Pixels whose re-render mixes in something that moves, `(T, H, W)` bool; none where it cannot be told."""
    marked = mask[:, None].to(frames.dtype).expand_as(frames)
    try:
        with torch.no_grad():
            drawn = reconstruction.rerender_frames(marked).frames.mean(1)
    except UserError:  # this reconstruction draws no other colours
        return torch.zeros_like(mask)
    return (drawn > GHOST).to(mask.device)


def static_cost(images: Tensor, reconstruction: Reconstruction, size: tuple[int, int], stride: int) -> Tensor:
    """Least cost `(T, h, w)` over depths of a pixel as part of a static scene; 1 at half agreement.

    A pixel may be hidden in the frames of one side, so the better side counts: the mean of the frames one and two
    strides before it, or after it. Where none is in view, the cost is 0.

    Args:
        images: `(T, 1, h, w)` luminance.
        reconstruction: Cameras, and depth if there is parallax.
        size: (H, W) of the frames that the reconstruction was made from.
        stride: Frames between neighbours.
    """
    height, width = int(images.shape[-2]), int(images.shape[-1])
    poses, matrix = _cameras(reconstruction, size, (height, width), images)
    planes = _planes(reconstruction, images)
    rays = pixel_rays(matrix, height, width).reshape(-1, 3).T
    tolerance = _tolerance(images)
    found = []
    for frame, image in enumerate(images):
        sides = []
        for others in _sides(frame, len(images), stride):
            costs = [
                _patch_cost(
                    _warped(images[other], poses[other] @ invert_pose(poses[frame]), matrix, rays, planes), image
                )
                / tolerance[frame]
                for other in others
            ]
            # Where one of the frames does not show the pixel, the others decide.
            sides.append(torch.stack(costs).nanmean(0))
        best = torch.stack(sides).nan_to_num(nan=torch.inf).amin((0, 1))
        found.append(torch.where(best.isinf(), 0.0, best))
    return torch.stack(found)


def steady_cost(images: Tensor, stride: int, where: Tensor | None = None) -> Tensor:
    """Least cost `(T, h, w)` over displacements of a pixel that moves steadily; 1 at half agreement.

    The later frame is looked up at a displacement d, the earlier one at -d, give or take a pixel; at the ends of the
    clip the two frames of one side, at d and 2 d.

    Args:
        images: `(T, 1, h, w)` luminance.
        stride: Frames between neighbours.
        where: `(T, h, w)` bool, pixels that are asked about; frames without any are not searched, and have infinite
            costs.
    """
    count, tolerance = len(images), _tolerance(images)
    found = []
    for frame, image in enumerate(images):
        if where is not None and not bool(where[frame].any()):
            found.append(torch.full_like(image[0], torch.inf))
            continue
        before, after = frame - stride, frame + stride
        if before >= 0 and after < count:
            first, second = _searched(images[after], image, 1), _searched(images[before], image, 1).flip(0, 1)
        else:
            way = 1 if after < count else -1
            near, far = frame + way * stride, min(max(frame + way * 2 * stride, 0), count - 1)
            first = _searched(images[near], image, 1)
            second = _searched(images[far], image, 2) if far != near else first
        found.append(torch.maximum(first, _give_or_take(second)).amin((0, 1)) / tolerance[frame])
    return torch.stack(found)


def _sides(frame: int, count: int, stride: int) -> list[list[int]]:
    """Frames one and two strides before a frame, and after it; a side without any is left out."""
    sides = ([frame + way * step * stride for step in (1, 2)] for way in (-1, 1))
    inside = ([other for other in side if 0 <= other < count] for side in sides)
    return [side for side in inside if side]


def _cameras(
    reconstruction: Reconstruction, size: tuple[int, int], small: tuple[int, int], images: Tensor
) -> tuple[Tensor, Tensor]:
    """World-to-camera poses, and intrinsics in pixels of the small pictures."""
    trajectory = reconstruction.trajectory
    c2w = trajectory.c2w.clone()
    if not reconstruction.has_parallax:
        c2w[:, :3, 3] = 0
    intrinsics = default_intrinsics(*size) if trajectory.intrinsics is None else trajectory.intrinsics
    intrinsics = scale_intrinsics(intrinsics.double(), trajectory.image_size or size, small)
    return invert_pose(c2w.double()).to(images), intrinsics.to(images)


def _planes(reconstruction: Reconstruction, images: Tensor) -> Tensor:
    """Inverse depths that are tried, `(D,)`; one where the depth does not matter."""
    depth = reconstruction.depth
    if not reconstruction.has_parallax or depth is None:
        return images.new_ones(1)
    inverse = 1 / depth.flatten()[:: max(1, depth.numel() // 2**16)]
    low, high = inverse.quantile(inverse.new_tensor([0.01, 0.99])).tolist()
    return torch.linspace(low / DEPTH_MARGIN, high * DEPTH_MARGIN, NUM_PLANES).to(images)


def _warped(image: Tensor, motion: Tensor, intrinsics: Tensor, rays: Tensor, planes: Tensor) -> Tensor:
    """Another frame as a view shows it on planes of every depth, `(D, 1, h, w)`; NaN outside its picture."""
    height, width = int(image.shape[-2]), int(image.shape[-1])
    turned, moved = intrinsics @ motion[:3, :3] @ rays, intrinsics @ motion[:3, 3:]
    points = turned[None] + moved[None] * planes[:, None, None]
    z = points[:, 2].clamp(min=1e-6)
    grid = torch.stack([2 * points[:, 0] / z / width - 1, 2 * points[:, 1] / z / height - 1], dim=-1)
    inside = (grid.abs() <= 1 - 1 / max(height, width)).all(-1) & (points[:, 2] > 1e-3)
    grid = grid.reshape(len(planes), height, width, 2)
    seen = functional.grid_sample(
        image.expand(len(planes), -1, -1, -1), grid, padding_mode="border", align_corners=False
    )
    return seen.masked_fill(~inside.reshape(-1, 1, height, width), torch.nan)


def _patch_cost(seen: Tensor, image: Tensor) -> Tensor:
    """Mean squared difference `(N, h, w)` of patches without their mean difference.

    Without the mean, exposure that changes is no motion. NaN where the middle of the patch is NaN.
    """
    missing = seen.isnan()
    difference = (seen - image).nan_to_num()
    share = _mean_filter((~missing).to(image)).clamp(min=1e-6) if bool(missing.any()) else 1.0
    mean = _mean_filter(difference) / share
    square = _mean_filter(difference.square()) / share
    return (square - mean.square()).clamp(min=0).masked_fill(missing, torch.nan)[:, 0]


def _mean_filter(images: Tensor) -> Tensor:
    """Mean over patches, one side after the other."""
    half = PATCH // 2
    padded = functional.pad(images, (half,) * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (1, PATCH), 1), (PATCH, 1), 1)


def _tolerance(images: Tensor) -> Tensor:
    """Squared difference `(T, h, w)` that counts as half agreement: a small displacement and noise."""
    across = functional.pad(images[..., 2:] - images[..., :-2], (1, 1)) / 2
    down = functional.pad(images[..., 2:, :] - images[..., :-2, :], (0, 0, 1, 1)) / 2
    energy = _mean_filter((across.square() + down.square()).sum(1, keepdim=True))[:, 0]
    return DISPLACEMENT**2 * energy + NOISE**2


def _searched(image: Tensor, own: Tensor, factor: int) -> Tensor:
    """Patch costs `(2 R + 1, 2 R + 1, h, w)` of a picture displaced by `factor` times every displacement."""
    reach = factor * REACH
    padded = functional.pad(image[None], (reach,) * 4, mode="replicate")[0]
    height, width = int(own.shape[-2]), int(own.shape[-1])
    shifts: Sequence[int] = range(0, 2 * reach + 1, factor)
    rows = []
    for down in shifts:
        seen = torch.stack([padded[:, down : down + height, right : right + width] for right in shifts])
        rows.append(_patch_cost(seen, own))
    return torch.stack(rows)


def _give_or_take(costs: Tensor) -> Tensor:
    """The least cost within one displacement of each, `(2 R + 1, 2 R + 1, h, w)`."""
    sides, shape = costs.shape[:2], costs.shape[2:]
    flat = costs.reshape(*sides, -1).permute(2, 0, 1)[:, None]
    return -functional.max_pool2d(-flat, 3, 1, 1)[:, 0].permute(1, 2, 0).reshape(*sides, *shape)


def _lasting(moving: Tensor, stride: int) -> Tensor:
    """Moving pixels without specks near which most neighbouring frames show motion too; enlarged, `(T, h, w)`."""
    solid = functional.avg_pool2d(moving[:, None].float(), 3, 1, 1) > 0.6  # most of the eight neighbours agree
    near = functional.max_pool2d(solid.float(), 2 * REACH + 1, 1, REACH)[:, 0]
    kept = []
    for frame in range(len(moving)):
        around = [other for side in _sides(frame, len(moving), stride) for other in side]
        kept.append(solid[frame, 0] & (near[around].mean(0) >= LASTING))
    grown = functional.max_pool2d(torch.stack(kept)[:, None].float(), 2 * GROWTH + 3, 1, GROWTH + 1)[:, 0]
    return grown > 0
