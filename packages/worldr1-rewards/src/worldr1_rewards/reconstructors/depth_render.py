"""Views of key frames with depth from other places: geometry forward, colour backward, holes left open.

The depth of the key frames is splatted into the new view with a z-buffer; every pixel that received one then looks its
colour up in the key frames that see the same surface. Nothing is invented where no key frame looks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose, scale_intrinsics
from worldr1_rewards.reconstructors.pyramid import sample
from worldr1_rewards.reconstructors.rigid import pixel_rays

NEAR = 0.02
"""Least z-depth, in scene depths, of what is drawn."""
OCCLUSION = 0.12
"""Relative excess of depth over the key frame's own beyond which a surface is hidden there."""
CLOSING_STEPS = 2
"""Number of rings of empty pixels between splats that are filled; larger gaps are disocclusions."""


@dataclass(frozen=True, slots=True)
class KeyFrames:
    """Everything that is drawn.

    Attributes:
        frames: `(H, 3, height, width)` RGB.
        inverse_depth: `(H, h, w)`, possibly smaller than the frames.
        poses: `(H, 4, 4)` world-to-camera, float32.
        intrinsics: `(3, 3)` in pixels of `frames`.
    """

    frames: Tensor
    inverse_depth: Tensor
    poses: Tensor
    intrinsics: Tensor

    def without(self, index: int) -> KeyFrames:
        """All but one key frame."""
        keep = [i for i in range(len(self.frames)) if i != index]
        return KeyFrames(self.frames[keep], self.inverse_depth[keep], self.poses[keep], self.intrinsics)


def splat_depth(keys: KeyFrames, pose: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse depth `(h, w)` of a view, 0 where nothing lands.

    Args:
        keys: The scene.
        pose: `(4, 4)` world-to-camera of the view.
        intrinsics: `(3, 3)` in pixels of `size`.
        size: `(h, w)`, about the resolution of the key depth.
    """
    height, width = size
    source = keys.inverse_depth.shape[-2], keys.inverse_depth.shape[-1]
    full = keys.frames.shape[-2], keys.frames.shape[-1]
    rays = pixel_rays(scale_intrinsics(keys.intrinsics, full, source), *source).reshape(-1, 3).T
    relative = pose @ invert_pose(keys.poses)
    own = keys.inverse_depth.flatten(1)
    moved = torch.addcmul(intrinsics @ relative[:, :3, :3] @ rays, intrinsics @ relative[:, :3, 3:], own[:, None])
    z = moved[:, 2]
    x, y = (moved[:, 0] / z).floor(), (moved[:, 1] / z).floor()
    inverse = own / z
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > NEAR * own) & (inverse > 0)
    # What falls outside goes to one spare cell.
    place = torch.where(inside, y * width + x, height * width).long().flatten()
    buffer = torch.zeros(height * width + 1, dtype=inverse.dtype, device=inverse.device)
    buffer = buffer.scatter_reduce(0, place, inverse.flatten(), "amax")[:-1].reshape(height, width)
    for _ in range(CLOSING_STEPS):
        buffer = _close(buffer)
    return buffer


def _close(buffer: Tensor) -> Tensor:
    """Give an empty pixel the mean of its filled neighbours if at least three of the eight are filled."""
    filled = (buffer > 0).to(buffer.dtype)
    # Pooling adds in float32; a convolution rounds to TF32 on CUDA by default.
    both = torch.stack([filled, buffer])[None]
    count, total = functional.avg_pool2d(both, 3, stride=1, padding=1, divisor_override=1)[0]
    return torch.where((filled == 0) & (count >= 3), total / count.clamp(min=1), buffer)


def render_view(
    keys: KeyFrames, pose: Tensor, intrinsics: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """One view of the scene.

    Args:
        keys: The scene.
        pose: `(4, 4)` world-to-camera of the view.
        intrinsics: `(3, 3)` in pixels of `size`.
        size: `(H, W)`.

    Returns:
        RGB `(3, H, W)`, coverage `(H, W)` 0 or 1, and z-depth `(H, W)`, infinite where nothing is known.
    """
    source = keys.inverse_depth.shape[-2:]
    ratio = min(1.0, max(source) / max(size))
    small = max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
    coarse = splat_depth(keys, pose, scale_intrinsics(intrinsics, size, small), small)
    inverse = enlarge(coarse, size)
    colour, weight = _gather(keys, pose, intrinsics, inverse)
    covered = (inverse > 0) & (weight > 0)
    depth = torch.where(inverse > 0, 1 / inverse.clamp(min=1e-6), torch.full_like(inverse, torch.inf))
    return (colour / weight.clamp(min=1e-12)).clamp(0, 1), covered.to(colour.dtype), depth


def enlarge(inverse: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse depth at another size; pixels that touch an empty one take the nearest value instead of a blend."""
    if tuple(inverse.shape) == tuple(size):
        return inverse
    smooth = functional.interpolate(inverse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    nearest = functional.interpolate(inverse[None, None], size, mode="nearest-exact")[0, 0]
    holes = functional.interpolate(
        (inverse == 0).to(inverse.dtype)[None, None], size, mode="bilinear", align_corners=False
    )[0, 0]
    return torch.where(holes > 0, nearest, smooth)


def _gather(keys: KeyFrames, pose: Tensor, intrinsics: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted colour sum `(3, H, W)` over the key frames that see each pixel's surface, and the weights' sum."""
    height, width = inverse.shape
    full = keys.frames.shape[-2], keys.frames.shape[-1]
    rays = pixel_rays(intrinsics, height, width).reshape(-1, 3).T
    relative = keys.poses @ invert_pose(pose)
    nearness = _nearness(relative)
    flat = inverse.flatten()
    moved = torch.addcmul(
        keys.intrinsics @ relative[:, :3, :3] @ rays, keys.intrinsics @ relative[:, :3, 3:], flat.expand(1, 1, -1)
    )
    z = moved[:, 2]
    safe = z.clamp(min=1e-3)
    x, y = moved[:, 0] / safe, moved[:, 1] / safe
    inside = (x > 0) & (x < full[1]) & (y > 0) & (y < full[0]) & (z > NEAR * flat)
    places = _rescaled(x[:, None], y[:, None], full, keys.inverse_depth.shape[-2:])
    own = sample(keys.inverse_depth[:, None], *places)[:, 0, 0]
    share = nearness[:, None] * (inside & (own <= (1 + OCCLUSION) * flat / safe))
    seen = sample(keys.frames, x[:, None], y[:, None])[:, :, 0]
    colour = (share[:, None] * seen).sum(0).reshape(-1, height, width)
    return colour, share.sum(0).reshape(height, width)


def _rescaled(x: Tensor, y: Tensor, old: tuple[int, int], new: tuple[int, int] | torch.Size) -> tuple[Tensor, Tensor]:
    return x * (new[1] / old[1]), y * (new[0] / old[0])


def _nearness(relative: Tensor) -> Tensor:
    """Weight of each key frame `(H,)`: views from nearby are sharper and share highlights."""
    turn = (relative[:, :3, :3] - torch.eye(3, dtype=relative.dtype, device=relative.device)).square().sum((1, 2))
    distance = relative[:, :3, 3].square().sum(1) + turn
    return 1 / (distance + 0.05 * distance.max() + 1e-6)
