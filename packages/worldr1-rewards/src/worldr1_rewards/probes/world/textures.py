"""Seamless procedural textures, stored with their blurred copies so that far surfaces do not alias."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

TEXTURE_SIZE = 256
NUM_LEVELS = 5


def periodic_noise(generator: torch.Generator, octaves: Sequence[int], gain: float, channels: int = 1) -> Tensor:
    """Zero-mean, unit-variance noise `(channels, S, S)` that tiles; `octaves` are grid sizes, coarse to fine."""
    size, total, amplitude = TEXTURE_SIZE, torch.zeros(1, channels, TEXTURE_SIZE, TEXTURE_SIZE), 1.0
    for cells in octaves:
        grid = functional.pad(
            torch.randn(1, channels, cells, cells, generator=generator), (2, 2, 2, 2), mode="circular"
        )
        step = size // cells
        fine = functional.interpolate(grid, scale_factor=step, mode="bicubic", align_corners=False)
        fine = fine[..., 2 * step : 2 * step + cells * step, 2 * step : 2 * step + cells * step]
        if fine.shape[-1] != size:
            fine = functional.interpolate(fine, size=(size, size), mode="bilinear", align_corners=False)
        total = total + amplitude * fine
        amplitude *= gain
    return ((total - total.mean()) / total.std())[0]


def base_colour(generator: torch.Generator, low: float = 0.3, high: float = 0.75) -> Tensor:
    """A random, moderately saturated colour `(3, 1, 1)`."""
    grey = low + (high - low) * torch.rand(1, generator=generator)
    tint = 0.16 * (torch.rand(3, generator=generator) - 0.5) * 2
    return (grey + tint).clamp(0.1, 0.9)[:, None, None]


def _checks(cells: int, line: int = 0) -> Tensor:
    """A checkerboard `(S, S)` of `cells` fields in ±0.5, with `line` pixels of joint at −1 where asked for."""
    index = torch.arange(TEXTURE_SIZE)
    step = TEXTURE_SIZE // cells
    board = ((index[:, None] // step + index[None, :] // step) % 2).float() - 0.5
    if line:
        joint = (index % step) < line
        board[joint[:, None] | joint[None, :]] = -1.0
    return board


def rich(generator: torch.Generator, contrast: float = 1.0) -> Tensor:
    """Multi-octave noise with some sharp-edged patches."""
    tone = periodic_noise(generator, (4, 8, 16, 32, 64), 0.75)
    chroma = periodic_noise(generator, (4, 8, 16, 32), 0.7, channels=3)
    patches = (periodic_noise(generator, (4, 8), 0.8) > 0.6).float() - 0.3
    accent = 0.5 * (torch.rand(3, 1, 1, generator=generator) - 0.5)
    return base_colour(generator) + contrast * (0.14 * tone + 0.05 * chroma + accent * patches)


def soft(generator: torch.Generator, contrast: float = 1.0) -> Tensor:
    """Gentle low-frequency shades and nothing fine."""
    tone = periodic_noise(generator, (2, 4, 8), 0.7)
    chroma = periodic_noise(generator, (2, 4), 0.7, channels=3)
    return base_colour(generator) + contrast * (0.11 * tone + 0.04 * chroma)


def plain(generator: torch.Generator) -> Tensor:
    """A painted wall: hardly any texture at all."""
    return base_colour(generator, 0.45, 0.85) + 0.008 * periodic_noise(generator, (2, 4), 0.6)


def tiles(generator: torch.Generator) -> Tensor:
    """Repetitive tiles with joints; only a faint stain tells one tile from the next."""
    cells = (8, 16)[int(torch.randint(0, 2, (1,), generator=generator))]
    accent = 0.16 + 0.12 * torch.rand(3, 1, 1, generator=generator)
    stain = 0.035 * periodic_noise(generator, (2, 4, 8), 0.8)
    return base_colour(generator, 0.4, 0.65) + accent * _checks(cells, line=2) + stain


def mip_levels(texture: Tensor) -> Tensor:
    """`(3, NUM_LEVELS, S + 2, S + 2)`: the texture blurred to 1, 2, 4, ... texels, each with a wrapped border."""
    levels = []
    for level in range(NUM_LEVELS):
        blurred = texture[None]
        if level:
            step = 2**level
            blurred = functional.avg_pool2d(functional.pad(blurred, (step, step, step, step), mode="circular"), step)
            blurred = functional.interpolate(blurred, scale_factor=step, mode="bilinear", align_corners=False)
            blurred = blurred[..., step:-step, step:-step]
        levels.append(functional.pad(blurred.clamp(0.02, 0.98), (1, 1, 1, 1), mode="circular")[0])
    return torch.stack(levels, dim=1)
