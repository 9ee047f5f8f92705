"""Image pyramids with gradients: what a photometric method compares, from coarse to fine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import scale_intrinsics

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 luma weights."""
MAX_SHIFTS = 4
"""Largest radius in pixels of a blur that is summed from shifted images; wider ones are matrix products."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a clip.

    Attributes:
        images: `(T, C, h, w)` values that are compared.
        stack: `(T, 3C, h, w)` values, then their x and y derivatives per pixel.
        intrinsics: `(3, 3)` in pixels of this level.
    """

    images: Tensor
    stack: Tensor
    intrinsics: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])

    def select(self, frames: list[int]) -> Level:
        """The same level of some of the frames."""
        return Level(self.images[frames], self.stack[frames], self.intrinsics)


def luma(frames: Tensor) -> Tensor:
    """`(T, 1, H, W)` grey image of `(T, 3, H, W)` RGB."""
    weights = torch.tensor(LUMA, dtype=frames.dtype, device=frames.device)
    return (frames * weights[:, None, None]).sum(1, keepdim=True)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur of `(N, C, h, w)` with replicated borders; `sigma` in pixels, 0 for none."""
    if sigma <= 0:
        return images
    radius = max(1, round(2.5 * sigma))
    taps = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    taps = [tap / sum(taps) for tap in taps]
    if radius > MAX_SHIFTS:
        rows, columns = (_blur_matrix(taps, int(length), images) for length in images.shape[-2:])
        return rows @ images @ columns.T
    result = functional.pad(images, (radius, radius, radius, radius), mode="replicate")
    for dim in (2, 3):
        result = _blur_along(result, taps, dim)
    return result


def _blur_along(padded: Tensor, taps: list[float], dim: int) -> Tensor:
    """Sum of shifted images: several times faster than a convolution where the kernel is small and symmetric."""
    radius = len(taps) // 2
    length = padded.shape[dim] - 2 * radius
    result = padded.narrow(dim, radius, length) * taps[radius]
    for step in range(radius):
        pair = padded.narrow(dim, step, length) + padded.narrow(dim, 2 * radius - step, length)
        result.add_(pair, alpha=taps[step])
    return result


def _blur_matrix(taps: list[float], length: int, like: Tensor) -> Tensor:
    """Blur along one axis with replicated borders as a matrix `(length, length)`."""
    radius = len(taps) // 2
    steps = torch.arange(-radius, radius + 1, device=like.device)
    index = (torch.arange(length, device=like.device)[:, None] + steps).clamp(0, length - 1)
    matrix = torch.zeros(length, length, dtype=like.dtype, device=like.device)
    return matrix.scatter_add_(1, index, like.new_tensor(taps).expand_as(index).contiguous())


def normalise_locally(images: Tensor, sigma: float, floor: float = 0.02) -> Tensor:
    """Remove the local mean and divide by the local contrast, so that brightness and shading do not matter.

    Args:
        images: `(N, C, h, w)`.
        sigma: Size of the neighbourhood in pixels.
        floor: Contrast below which a neighbourhood counts as untextured rather than being amplified.

    Returns:
        The same shape, clipped to [-3, 3].
    """
    centred = images - blur(images, sigma)
    spread = blur(centred**2, sigma).mean(1, keepdim=True)
    return (centred / (spread.sqrt() + floor)).clamp(-3, 3)


def with_gradients(images: Tensor, intrinsics: Tensor) -> Level:
    """A level with central differences; the outermost pixels have no gradient."""
    grad_x, grad_y = torch.zeros_like(images), torch.zeros_like(images)
    grad_x[..., 1:-1] = (images[..., 2:] - images[..., :-2]) / 2
    grad_y[..., 1:-1, :] = (images[..., 2:, :] - images[..., :-2, :]) / 2
    return Level(images, torch.cat([images, grad_x, grad_y], 1), intrinsics)


def halvings(frames: Tensor, intrinsics: Tensor, min_side: int) -> list[tuple[Tensor, Tensor]]:
    """Frames and intrinsics at full, half, quarter, … size while the shorter side stays at least `min_side`."""
    levels = [(frames, intrinsics)]
    current = frames
    while min(current.shape[-2:]) // 2 >= min_side:
        current = functional.avg_pool2d(current, 2)
        # Odd sizes lose their last row or column, so pixels stay exactly twice as large: scale by powers of two.
        factor = 2 ** len(levels)
        scale = intrinsics.new_tensor([1 / factor, 1 / factor, 1.0])
        levels.append((current, scale[:, None] * intrinsics))
    return levels


def limit_size(frames: Tensor, intrinsics: Tensor, max_side: int) -> tuple[Tensor, Tensor]:
    """Shrink frames (antialiased) until the longer side is at most `max_side`."""
    height, width = int(frames.shape[-2]), int(frames.shape[-1])
    if max(height, width) <= max_side:
        return frames, intrinsics
    scale = max_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = functional.interpolate(frames, size, mode="bilinear", antialias=True)
    return small, scale_intrinsics(intrinsics, (height, width), size)


def sample(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values of `(N, C, h, w)` images at pixel positions `(N, a, b)`: `(N, C, a, b)`; borders replicate."""
    height, width = images.shape[-2:]
    grid = x.new_empty(*x.shape, 2)
    grid[..., 0] = x
    grid[..., 1] = y
    grid.mul_(x.new_tensor([2 / width, 2 / height])).sub_(1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
