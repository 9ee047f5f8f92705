"""Noise on the scene plane, carried through a whole clip without recursion.

Every cell of a canvas keeps one N(0, 1) vector for the clip. A latent pixel of any frame is the sum of the cells that
land in it over the root of their number; a pixel in which none lands gets fresh noise. In every frame, pixels are sums
over disjoint sets of independent cells: exactly N(0, 1), exactly white. Between frames, two pixels are correlated by
the cells that they share: by how far their images on the plane overlap. No frame depends on the one before.

Cells are drawn and spent chunk by chunk, so memory is that of the latent and one chunk, however large the canvas is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from worldr1_backbones.noise.tiles import Tiles, lay_tiles

CHUNK_CELLS = 1 << 16
"""Cells that are held at a time."""


def canvas_noise(
    views: Tensor,
    stretch: Tensor,
    size: tuple[int, int],
    channels: int,
    generator: Generator,
    *,
    density: float,
    max_cells: int,
) -> Tensor:
    """Noise that moves as the views move.

    Args:
        views: `(K, 3, 3)` float64 from directions to homogeneous pixels of each frame; see `plane_maps`.
        stretch: `(K,)` int64; frames of different stretches share no canvas.
        size: `(H, W)` in latent pixels.
        channels: C.
        generator: Source of all randomness.
        density: Cells along the side of a latent pixel in the closest view.
        max_cells: Largest number of cells on one canvas; where more would be needed, cells become larger.

    Returns:
        `(C, K, H, W)` float32; every frame is white N(0, 1).
    """
    height, width = size
    noise = torch.empty(channels, len(views), height, width)
    for part in stretch.unique().tolist():
        frames = (stretch == part).nonzero()[:, 0]
        sums, counts = _spread(views[frames], size, channels, generator, density, max_cells)
        empty = counts == 0
        sums /= counts.clamp(min=1).sqrt().unsqueeze(-1)
        sums[empty] = torch.randn(int(empty.sum()), channels, generator=generator)
        noise[:, frames] = sums.permute(2, 0, 1).reshape(channels, len(frames), height, width)
    return noise


def _spread(
    views: Tensor, size: tuple[int, int], channels: int, generator: Generator, density: float, max_cells: int
) -> tuple[Tensor, Tensor]:
    """Sums `(K, H W, C)` and counts `(K, H W)` of the cells that fall into every pixel."""
    height, width = size
    # One row more than there are pixels: cells out of sight go there.
    sums = torch.zeros(len(views), height * width + 1, channels)
    counts = torch.zeros(len(views), height * width + 1)
    for tiles in _chunks(lay_tiles(views, size, density, max_cells)):
        directions = tiles.directions()
        values = torch.randn(directions.shape[1], channels, generator=generator)
        for frame in tiles.visible.any(0).nonzero()[:, 0].tolist():
            pixel = _pixel_of(views[frame] @ directions, size)
            sums[frame].index_add_(0, pixel, values)
            counts[frame] += torch.bincount(pixel, minlength=height * width + 1)
    return sums[:, :-1].contiguous(), counts[:, :-1]


def _pixel_of(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Index of the pixel in which homogeneous points `(3, N)` lie; H W for those out of sight."""
    height, width = size
    x, y, w = points
    column, row = (x / w).float().floor_(), (y / w).float().floor_()
    inside = (w > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return torch.where(inside, row.mul_(width).add_(column), float(height * width)).long()


def _chunks(tiles: Tiles) -> Iterator[Tiles]:
    """Runs of tiles with at most `CHUNK_CELLS` cells each (a tile alone may have no more: see `TILE_PIXELS`)."""
    chunk = torch.div(tiles.counts.cumsum(0) - 1, CHUNK_CELLS, rounding_mode="floor")
    for number in chunk.unique().tolist():
        yield tiles.select((chunk == number).nonzero()[:, 0])
