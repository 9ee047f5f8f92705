"""Which pixels the fine stage follows, and how small patches around them look in other frames.

A few thousand pixels with strong gradients, spread over the image and over several host frames, carry nearly all of
the information about the cameras. Plain walls are not picked, so they can neither help nor harm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from worldr1_rewards.reconstructors.pyramid import Level, blur, sample
from worldr1_rewards.reconstructors.rigid import rays_through

PATCH = tuple((float(x), float(y)) for y in (-1, 0, 1) for x in (-1, 0, 1))
"""Offsets in pixels of the level at hand."""
TYPICAL_QUANTILE = 0.5
"""Share of pixels whose gradient is below the typical one."""
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
    typical = strength.flatten(1).quantile(TYPICAL_QUANTILE, dim=1)[:, None, None]
    strength = strength.clamp(max=typical) * (1 + scatter(height, width).to(strength)) * inside
    cell = max(2, int((height * width / (2 * num_points)) ** 0.5))
    best, index = F.max_pool2d(strength[:, None], cell, return_indices=True, ceil_mode=True)
    count = min(num_points, best[0].numel())
    values, order = best.flatten(1).topk(count, dim=1)
    pixels = index.flatten(1).gather(1, order)
    positions = torch.stack([pixels % width + 0.5, pixels // width + 0.5], -1).to(images.dtype)
    return Points(hosts, positions, (values > 0).to(images.dtype))


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
        self.rays = rays_through(places, level.intrinsics)
        own = torch.arange(level.images.shape[0], device=offsets.device)[:, None] == torch.tensor(
            points.hosts, device=offsets.device
        )
        self.weight = points.weight * (~own)[:, :, None]

    def project(self, relative: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised image positions `(t, h, n, m, 2)` and scaled depth `(t, h, n, m)`, which is z times `rho`.

        Args:
            relative: `(t, h, 4, 4)` poses from hosts to frames.
            rho: `(h, n)` inverse depth in the hosts.
        """
        rotation = relative[:, :, None, :3, :3].transpose(-1, -2)
        moved = self.rays @ rotation + (rho[None, :, :, None] * relative[:, :, None, :3, 3])[:, :, :, None]
        z = moved[..., 2]
        return moved[..., :2] / z.clamp(min=1e-3)[..., None], z

    def visible(self, position: Tensor, z: Tensor, frames: list[int] | None = None) -> Tensor:
        """`(t, h, n)` 1 where the centre of a patch lands inside the frame and in front of the camera."""
        height, width = self.level.size
        centre = position.shape[3] // 2
        x, y = self.to_pixels(position[:, :, :, centre])
        inside = (x > 1.5) & (x < width - 1.5) & (y > 1.5) & (y < height - 1.5) & (z[:, :, :, centre] > 0.05)
        return (self.weight if frames is None else self.weight[frames]) * inside

    def to_pixels(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel coordinates of normalised positions `(…, 2)`."""
        matrix = self.level.intrinsics
        return matrix[0, 0] * position[..., 0] + matrix[0, 2], matrix[1, 1] * position[..., 1] + matrix[1, 2]

    def look(self, images: Tensor, position: Tensor) -> Tensor:
        """Values `(t, c, h, n, m)` of `images` `(t, c, H, W)` at normalised positions."""
        x, y = self.to_pixels(position)
        flat = sample(images, x.flatten(1, 2), y.flatten(1, 2))
        return flat.unflatten(2, x.shape[1:3])
