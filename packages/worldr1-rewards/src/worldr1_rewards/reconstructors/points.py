"""Pixels that the fine stage tracks, and the appearance of small patches around them in other frames.

A few thousand pixels with strong gradients, spread over the image and over several host frames, carry nearly all of
the information about the cameras. Plain walls are not picked, so they can neither help nor harm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_rewards.reconstructors.pyramid import Level, blur, sample
from worldr1_rewards.reconstructors.rigid import rays_through

PATCH = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
"""Offsets in pixels of the level at hand."""
TYPICAL_QUANTILE = 0.3
"""Share of pixels whose gradient is below the typical one."""
STRONG_QUANTILE = 0.8
WEAK = 0.1
"""Share of the strong gradients' energy that counts as texture at all, where most of the frame is plain wall."""
FAINT = 0.05
"""Share of the typical energy below which no point is taken: shading, and what compression leaves on a wall."""
MARGIN = 1.5
"""Pixels next to the border in which a patch counts as out of view."""
BORDER = 3
"""Pixels next to the border that no point is taken from."""


@dataclass(frozen=True, slots=True)
class Points:
    """Pixels of host frames.

    Attributes:
        hosts: Host frames, H of them.
        positions: `(H, N, 2)` pixel positions at full size.
        weight: `(H, N)` 1 where there is a point, 0 where a host had too few.
    """

    hosts: list[int]
    positions: Tensor
    weight: Tensor


def texture_strength(images: Tensor) -> Tensor:
    """`(T, h, w)` squared gradient of grey images `(T, 1, h, w)`, averaged over a small neighbourhood."""
    grad_x = torch.zeros_like(images)
    grad_y = torch.zeros_like(images)
    grad_x[..., 1:-1] = (images[..., 2:] - images[..., :-2]) / 2
    grad_y[..., 1:-1, :] = (images[..., 2:, :] - images[..., :-2, :]) / 2
    return blur(grad_x**2 + grad_y**2, 1.0)[:, 0]


def scatter(height: int, width: int) -> Tensor:
    """`(h, w)` fixed values in [0, 1) that look random (a golden-ratio lattice), to break ties without a seed."""
    y = torch.arange(height, dtype=torch.float64)[:, None]
    x = torch.arange(width, dtype=torch.float64)
    return (0.7548776662 * x + 0.5698402910 * y).frac()


def choose_points(images: Tensor, hosts: list[int], num_points: int) -> Points:
    """Pick a textured pixel of each cell of a grid, then the strongest half of the cells.

    Gradients beyond what is typical of the frame count no more than that: the very strongest are silhouettes, and a
    patch there is half background.

    Args:
        images: `(T, 1, H, W)` grey frames, slightly blurred.
        hosts: Frames to take points from.
        num_points: N, points a host.
    """
    strength = texture_strength(images[hosts])
    height, width = strength.shape[-2:]
    inside = torch.zeros_like(strength)
    inside[:, BORDER : height - BORDER, BORDER : width - BORDER] = 1
    strength = (strength + 1e-12) * inside
    typical, strong = strength.flatten(1).quantile(strength.new_tensor([TYPICAL_QUANTILE, STRONG_QUANTILE]), dim=1)
    typical = torch.maximum(typical, WEAK * strong)[:, None, None]
    strength = strength.clamp(max=typical) * (1 + scatter(height, width).to(strength)) * inside
    cell = max(2, int((height * width / (2 * num_points)) ** 0.5))
    best, index = functional.max_pool2d(strength[:, None], cell, return_indices=True, ceil_mode=True)
    count = min(num_points, best[0].numel())
    values, order = best.flatten(1).topk(count, dim=1)
    pixels = index.flatten(1).gather(1, order)
    positions = torch.stack([pixels % width + 0.5, pixels // width + 0.5], -1).to(images.dtype)
    return Points(hosts, positions, (values > FAINT * typical[:, 0]).to(images.dtype))


@dataclass(frozen=True, slots=True)
class Projection:
    """Projections of patches into the frames.

    Attributes:
        x, y: `(t, h, n)` normalised image position of the centres.
        depth: `(t, h, n)` z-depth of the centres times their inverse depth in the host, positive.
        inside: `(t, h, n)` bool, whether the centre lands in front of the camera and inside the frame.
        grid: `(t, m, h, n, 2)` positions of all patch pixels from -1 to 1 across the frame; the warp is linear within
            a patch.
    """

    x: Tensor
    y: Tensor
    depth: Tensor
    inside: Tensor
    grid: Tensor


class Patches:
    """Patches around points, and where they land in every frame.

    Indices of results are frame t, patch pixel m, host h, point n.

    Args:
        level: Grey frames `(T, 1, h, w)` with gradients.
        points: Pixels to follow, at the size of level 0.
        scale: Size of `level` relative to level 0.

    Attributes:
        values: `(m, h, n)` grey values in the hosts.
        strength: `(h, n)` squared gradients there, mean over the patch.
        weight: `(T, h, n)` 1 where a frame may say something about a point: it is one, and the frame is not its host.
    """

    def __init__(self, level: Level, points: Points, scale: float) -> None:
        self.level = level
        offsets = level.images.new_tensor(PATCH)
        places = points.positions[:, :, None] * scale + offsets
        sampled = sample(level.stack[points.hosts], places[..., 0], places[..., 1])
        self.values = sampled[:, 0].permute(2, 0, 1).contiguous()
        self.strength = sampled[:, 1:].square().sum(1).mean(-1)
        self.rays = rays_through(points.positions * scale, level.intrinsics).transpose(1, 2).contiguous()
        self.focal, self.centre = level.intrinsics.diagonal()[:2].tolist(), level.intrinsics[:2, 2].tolist()
        own = torch.arange(level.images.shape[0], device=offsets.device)[:, None] == torch.tensor(
            points.hosts, device=offsets.device
        )
        self.weight = points.weight * (~own)[:, :, None]

    def project(self, relative: Tensor, rho: Tensor) -> Projection:
        """Project the patches into the frames.

        Args:
            relative: `(t, h, 4, 4)` poses from hosts to frames.
            rho: `(h, n)` inverse depth in the hosts.
        """
        moved = torch.addcmul(relative[:, :, :3, :3] @ self.rays, relative[:, :, :3, 3:], rho[:, None])
        depth = moved[:, :, 2].clamp(min=1e-3)
        x, y = moved[:, :, 0] / depth, moved[:, :, 1] / depth
        inside = moved[:, :, 2] > 0.05
        grid = rho.new_empty(len(relative), len(PATCH), *rho.shape, 2)
        for axis, place in enumerate((x, y)):
            length = self.level.size[1 - axis]
            middle = place * (2 * self.focal[axis] / length) + (2 * self.centre[axis] / length - 1)
            inside &= middle.abs() < 1 - 2 * MARGIN / length
            entries = relative[:, :, [axis, 2], :2, None] * (2 * self.focal[axis] / length)
            for m, offset in enumerate(PATCH):
                grid[:, m, :, :, axis] = middle
                for j in (0, 1):
                    if offset[j] != 0:
                        tilt = (entries[:, :, 0, j] - entries[:, :, 1, j] * place) / depth
                        grid[:, m, :, :, axis].add_(tilt, alpha=offset[j] / self.focal[j])
        return Projection(x, y, depth, inside, grid)

    def sample(self, images: Tensor, projection: Projection) -> Tensor:
        """Values `(t, c, m, h, n)` of `images` `(t, c, height, width)` where the patches land."""
        flat = functional.grid_sample(images, projection.grid.flatten(1, 2), padding_mode="border", align_corners=False)
        return flat.unflatten(2, projection.grid.shape[1:3])
