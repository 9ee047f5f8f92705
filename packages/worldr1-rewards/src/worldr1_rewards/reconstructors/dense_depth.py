"""Dense depth of a few key frames by plane sweep, guided by the points that bundle adjustment has placed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.bundle_adjustment import interpolate_minimum
from worldr1_rewards.reconstructors.points import Points
from worldr1_rewards.reconstructors.pyramid import blur, sample
from worldr1_rewards.reconstructors.rigid import pixel_rays

NUM_PLANES = 24
TRUNCATION = 0.08
"""Grey difference beyond which a source says no more against a depth: it may be occluded."""
UNSEEN = 0.5
"""Cost of a source that does not see the pixel, as a share of the truncation."""
WIDE_WEIGHT = 0.15
"""Weight of the wide window, which decides only where the narrow one sees no texture."""
PRIOR_WEIGHT = 0.02
"""Weight of the distance to the interpolated points, relative to the range of inverse depth."""


def interpolate_points(positions: Tensor, rho: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Smooth inverse depth `(h, w)` through scattered points by normalised convolution, coarse filling fine.

    Args:
        positions: `(N, 2)` pixels of `size`.
        rho: `(N,)` inverse depth.
        weight: `(N,)` non-negative confidence.
        size: `(h, w)`.
    """
    height, width = size
    x = positions[:, 0].long().clamp(0, width - 1)
    y = positions[:, 1].long().clamp(0, height - 1)
    sums = rho.new_zeros(2, height * width)
    sums.index_add_(1, y * width + x, torch.stack([weight * rho, weight]))
    maps = sums.reshape(1, 2, height, width)
    mean = (weight * rho).sum() / weight.sum().clamp(min=1e-12)
    result = mean.expand(1, 1, height, width)
    for share in (0.25, 0.08, 0.03):
        smooth = blur(maps, max(share * max(size), 0.6))
        strength = 0.1 * weight.mean() / (height * width) * len(weight)
        result = (smooth[:, :1] + strength * result) / (smooth[:, 1:] + strength).clamp(min=1e-20)
    return result[0, 0]


def sweep(images: Tensor, intrinsics: Tensor, relative: Tensor, key: Tensor, planes: Tensor, prior: Tensor) -> Tensor:
    """Inverse depth `(h, w)` of one key frame.

    Args:
        images: `(S, 1, h, w)` grey source frames.
        intrinsics: `(3, 3)` in pixels of `images`.
        relative: `(S, 4, 4)` poses from the key frame to the sources.
        key: `(1, h, w)` the key frame.
        planes: `(D,)` evenly spaced inverse depths.
        prior: `(h, w)` inverse depth from the points.
    """
    height, width = key.shape[-2:]
    camera = intrinsics @ relative[:, :3, :3]
    turned = camera @ pixel_rays(intrinsics, height, width).reshape(-1, 3).T
    pushed = intrinsics @ relative[:, :3, 3:]
    costs = []
    for plane in planes:
        moved = turned + pushed * plane
        z = moved[:, 2].clamp(min=1e-3)
        x, y = moved[:, 0] / z, moved[:, 1] / z
        seen = ((x - width / 2).abs() < width / 2) & ((y - height / 2).abs() < height / 2) & (moved[:, 2] > 0.02)
        difference = (sample(images, x[:, None], y[:, None])[:, 0, 0] - key.flatten()).abs().clamp(max=TRUNCATION)
        costs.append(torch.where(seen, difference, UNSEEN * TRUNCATION).mean(0).reshape(height, width))
    volume = torch.stack(costs)[:, None]
    volume = (blur(volume, 1.0) + WIDE_WEIGHT * _wide_blur(volume, max(2.0, 0.04 * max(height, width))))[:, 0]
    spread = (planes[-1] - planes[0]).clamp(min=1e-6)
    volume = volume + PRIOR_WEIGHT * ((planes[:, None, None] - prior) / spread).square()
    rho = interpolate_minimum(volume, planes)
    return rho.clamp(float(planes[0]), float(planes[-1]))


def _wide_blur(images: Tensor, sigma: float) -> Tensor:
    """`blur`, at a quarter of the size where nothing finer is left anyway."""
    factor = 4 if sigma >= 4 else 1
    small = functional.avg_pool2d(images, factor, ceil_mode=True, count_include_pad=False)
    size = (int(images.shape[-2]), int(images.shape[-1]))
    return functional.interpolate(blur(small, sigma / factor), size, mode="bilinear", align_corners=False)


def median_filter(image: Tensor) -> Tensor:
    """3×3 median of an `(h, w)` map; borders replicate."""
    padded = functional.pad(image[None, None], (1, 1, 1, 1), mode="replicate")
    windows = functional.unfold(padded, 3)[0]
    return windows.median(0).values.reshape(image.shape)


def key_depths(
    grey: Tensor, intrinsics: Tensor, poses: Tensor, points: Points, rho: Tensor, confidence: Tensor
) -> Tensor:
    """Inverse depth `(H, h, w)` of all key frames (the hosts of the points).

    Args:
        grey: `(T, 1, h, w)` frames.
        intrinsics: `(3, 3)` in pixels of `grey`.
        poses: `(T, 4, 4)` world-to-camera.
        points: Followed pixels, positions in pixels of `grey`.
        rho: `(H, N)` their inverse depth.
        confidence: `(H, N)` information on it.
    """
    sure = confidence > 0.1 * confidence.median()
    low, high = rho[sure].quantile(rho.new_tensor([0.01, 0.99])).tolist()
    planes = torch.linspace(max(0.75 * low, 1e-3), 1.25 * high, NUM_PLANES, dtype=rho.dtype, device=rho.device)
    maps = []
    for index, host in enumerate(points.hosts):
        sources = [other for other in points.hosts if other != host]
        relative = (poses[sources] @ invert_pose(poses[host])).to(grey.dtype)
        weight = confidence[index].clamp(max=float(confidence.median()))
        bounded = rho[index].clamp(float(planes[0]), float(planes[-1]))
        prior = interpolate_points(points.positions[index], bounded, weight, (grey.shape[-2], grey.shape[-1]))
        maps.append(median_filter(sweep(grey[sources], intrinsics, relative, grey[host], planes, prior)))
    return torch.stack(maps)
