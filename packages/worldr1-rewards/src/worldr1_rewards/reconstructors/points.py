"""Which pixels the fine stage follows, and how small patches around them look in other frames.

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
class Landing:
    """Where patches land in the frames.

    Attributes:
        position: `(t, h, n, 2)` normalised image position of the centres.
        depth: `(t, h, n)` z-depth of the centres times their inverse depth in the host, positive.
        in_front: `(t, h, n)` bool.
        centre: `(t, h, n, 2)` pixel position of the centres.
        x, y: `(t, h, n, m)` pixel positions; the warp is linear within a patch.
    """

    position: Tensor
    depth: Tensor
    in_front: Tensor
    centre: Tensor
    x: Tensor
    y: Tensor


class Patches:
    """Patches around points, and where they land in every frame.

    Indices of results are frame t, host h, point n, patch pixel m.

    Args:
        level: Grey frames `(T, 1, h, w)` with gradients.
        points: Pixels to follow, at the size of level 0.
        scale: Size of `level` relative to level 0.
    """

    def __init__(self, level: Level, points: Points, scale: float) -> None:
        self.level = level
        offsets = level.images.new_tensor(PATCH)
        places = points.positions[:, :, None] * scale + offsets
        self.values = sample(level.images[points.hosts], places[..., 0], places[..., 1])[:, 0]
        gradients = sample(level.stack[points.hosts, 1:], places[..., 0], places[..., 1])
        self.strength = gradients.square().sum(1).mean(-1)
        self.offsets = offsets
        rays = rays_through(points.positions * scale, level.intrinsics)
        self.ray_x, self.ray_y = rays[..., 0], rays[..., 1]
        own = torch.arange(level.images.shape[0], device=offsets.device)[:, None] == torch.tensor(
            points.hosts, device=offsets.device
        )
        self.weight = points.weight * (~own)[:, :, None]

    def project(self, relative: Tensor, rho: Tensor) -> Landing:
        """Where the patches land.

        Args:
            relative: `(t, h, 4, 4)` poses from hosts to frames.
            rho: `(h, n)` inverse depth in the hosts.
        """
        entry = relative[:, :, :3, :, None]
        turned = [entry[:, :, i, 0] * self.ray_x + entry[:, :, i, 1] * self.ray_y + entry[:, :, i, 2] for i in range(3)]
        moved = [turned[i] + entry[:, :, i, 3] * rho for i in range(3)]
        z = moved[2].clamp(min=1e-3)
        inverse_z = 1 / z
        position = torch.stack([moved[0] * inverse_z, moved[1] * inverse_z], -1)
        spread = entry[:, :, :2, :2].permute(0, 1, 4, 2, 3) - position[..., None] * entry[:, :, 2:, :2].permute(
            0, 1, 4, 2, 3
        )
        matrix = self.level.intrinsics
        focal = matrix.diagonal()[:2]
        centre = position * focal + matrix[:2, 2]
        spread = spread * inverse_z[..., None, None] * (focal[:, None] / focal)
        offsets = self.offsets
        x = centre[..., :1] + spread[..., 0, :1] * offsets[:, 0] + spread[..., 0, 1:] * offsets[:, 1]
        y = centre[..., 1:] + spread[..., 1, :1] * offsets[:, 0] + spread[..., 1, 1:] * offsets[:, 1]
        return Landing(position, z, moved[2] > 0.05, centre, x, y)

    def visible(self, landing: Landing, frames: list[int] | None = None) -> Tensor:
        """`(t, h, n)` 1 where the centre of a patch lands inside the frame and in front of the camera."""
        height, width = self.level.size
        x, y = landing.centre.unbind(-1)
        inside = (x > MARGIN) & (x < width - MARGIN) & (y > MARGIN) & (y < height - MARGIN) & landing.in_front
        return (self.weight if frames is None else self.weight[frames]) * inside

    def look(self, images: Tensor, landing: Landing) -> Tensor:
        """Values `(t, c, h, n, m)` of `images` `(t, c, height, width)` where the patches land."""
        flat = sample(images, landing.x.flatten(1, 2), landing.y.flatten(1, 2))
        return flat.unflatten(2, landing.x.shape[1:3])
