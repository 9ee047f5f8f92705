"""A canvas of noise cells over all viewing directions, as fine as the closest view of each place needs.

Directions are laid out on the six faces of a cube, so that a camera may turn all the way round. A face is split into
tiles, each along the axis on which a view stretches it, until a tile covers few pixels in every view that sees it.
Tiles that no view sees are dropped. A tile then holds a grid of cells whose density follows its finest view: a push in
needs cells only in the region that it ends at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TILE_PIXELS = 8.0
"""Largest side of a tile in pixels of the views that see it."""
MAX_TILES = 1 << 17
"""Largest number of tiles. Beyond it tiles stay coarser: their pixels share fewer cells, or get fresh
noise."""
_CENTRE = 0.5 + 1 / (1000 * math.pi)
"""Position of a cell's point in its cell: slightly off centre, because exact halves would fall on pixel borders and
be decided by rounding."""
_MAX_ROUNDS = 60
_LOOK_AT_A_TIME = 4096
_CORNERS = torch.tensor([[0, 2], [1, 2], [0, 3], [1, 3]])
_FACES = torch.tensor(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
        [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
        [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    ],
    dtype=torch.float64,
)
"""Rotations that carry (s, t, 1) of a face to a direction; the first looks ahead."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of the canvas.

    Attributes:
        face: `(N,)` int64.
        box: `(N, 4)` float64: s from, s to, t from, t to, in [-1, 1] on the face.
        visible: `(N, K)` bool: which of the views may see it.
        cells: `(N, 2)` int64 number of cells along s and t.
    """

    face: Tensor
    box: Tensor
    visible: Tensor
    cells: Tensor

    def __len__(self) -> int:
        return int(self.face.shape[0])

    @property
    def counts(self) -> Tensor:
        """Cells of each tile, `(N,)`."""
        return self.cells.prod(1)

    def select(self, index: Tensor) -> Tiles:
        """Some of the tiles."""
        return Tiles(self.face[index], self.box[index], self.visible[index], self.cells[index])

    def directions(self) -> Tensor:
        """Centres of all cells, tile by tile: `(3, sum of counts)` float64, of any positive length."""
        counts = self.counts
        tile = torch.repeat_interleave(torch.arange(len(self)), counts)
        place = torch.arange(len(tile)) - (counts.cumsum(0) - counts)[tile]
        along_s = self.cells[:, 0][tile]
        row = torch.div(place, along_s, rounding_mode="floor")
        column = place - row * along_s
        step = (self.box[:, 1::2] - self.box[:, 0::2]) / self.cells
        rotation = _FACES[self.face]
        right, down = rotation[:, :, 0] * step[:, :1], rotation[:, :, 1] * step[:, 1:]
        corner = rotation @ torch.cat([self.box[:, 0::2], torch.ones_like(step[:, :1])], dim=1).unsqueeze(-1)
        return (
            corner[:, :, 0][tile] + (column + _CENTRE)[:, None] * right[tile] + (row + _CENTRE)[:, None] * down[tile]
        ).T


def lay_tiles(views: Tensor, size: tuple[int, int], density: float, max_cells: int) -> Tiles:
    """Cover what the views see.

    Args:
        views: `(K, 3, 3)` from directions to homogeneous pixels of each view.
        size: `(H, W)` of the views in pixels.
        density: Cells along the side of a pixel of the finest view.
        max_cells: Largest number of cells; cells become larger to stay within it.

    Returns:
        Tiles in the order in which they come into view and leave it: neighbours in it are seen by much the same views.
    """
    face, box = torch.arange(6), torch.tensor([[-1.0, 1.0, -1.0, 1.0]], dtype=torch.float64).repeat(6, 1)
    done: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    laid = 0
    for level in range(_MAX_ROUNDS):
        visible, extent = _look(face, box, views, size)
        seen = visible.any(1)
        face, box, visible, extent = face[seen], box[seen], visible[seen], extent[seen]
        last = level == _MAX_ROUNDS - 1 or laid + len(face) > MAX_TILES
        ready = (extent <= TILE_PIXELS).all(1) | last
        done.append((face[ready], box[ready], visible[ready], extent[ready].clamp(max=TILE_PIXELS)))
        laid += int(ready.sum())
        face, box = _split(face[~ready], box[~ready], extent[~ready] > TILE_PIXELS)
        if not len(face):
            break
    face, box, visible, extent = (torch.cat(parts) for parts in zip(*done, strict=True))
    first, last_seen = visible.int().argmax(1), visible.int().flip(1).argmax(1)
    order = torch.argsort(first * len(views) - last_seen, stable=True)
    return Tiles(face, box, visible, _cell_counts(extent, density, max_cells)).select(order)


def _look(face: Tensor, box: Tensor, views: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the views that may see each tile, `(N, K)` bool, and its largest sides in pixels, `(N, 2)`."""
    parts = [
        _look_at_some(face_part, box_part, views, size)
        for face_part, box_part in zip(face.split(_LOOK_AT_A_TIME), box.split(_LOOK_AT_A_TIME), strict=True)
    ]
    return torch.cat([visible for visible, _ in parts]), torch.cat([extent for _, extent in parts])


def _look_at_some(face: Tensor, box: Tensor, views: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    st = torch.stack([box[:, _CORNERS[:, 0]], box[:, _CORNERS[:, 1]], torch.ones(len(box), 4, dtype=box.dtype)], dim=1)
    corners = _FACES[face] @ st
    x, y, w = (views[None] @ corners[:, None]).unbind(2)
    height, width = size
    outside = [x < 0, x > width * w, y < 0, y > height * w]
    visible = ~torch.stack([test.all(-1) for test in outside]).any(0)
    front = w.clamp(min=torch.finfo(w.dtype).tiny)
    u, v = x / front, y / front
    along_s = torch.maximum(_distance(u, v, 0, 1), _distance(u, v, 2, 3))
    along_t = torch.maximum(_distance(u, v, 0, 2), _distance(u, v, 1, 3))
    sides = torch.stack([along_s, along_t], dim=-1)
    sides = torch.where((w > 0).all(-1, keepdim=True), sides, torch.inf)
    return visible, torch.where(visible.unsqueeze(-1), sides, 0.0).amax(1)


def _distance(u: Tensor, v: Tensor, first: int, second: int) -> Tensor:
    return torch.hypot(u[..., first] - u[..., second], v[..., first] - v[..., second])


def _split(face: Tensor, box: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Halve tiles along s and along t, where `along` `(N, 2)` says so."""
    for axis in (0, 1):
        chosen = along[:, axis]
        middle = box[:, 2 * axis : 2 * axis + 2].mean(1)
        low, high = box.clone(), box[chosen].clone()
        low[chosen, 2 * axis + 1] = middle[chosen]
        high[:, 2 * axis] = middle[chosen]
        box, face = torch.cat([low, high]), torch.cat([face, face[chosen]])
        along = torch.cat([along, along[chosen]])
    return face, box


def _cell_counts(extent: Tensor, density: float, max_cells: int) -> Tensor:
    """Cells along s and t, `(N, 2)`; fewer than `density` asks for where the sum would exceed `max_cells`."""
    cells = (extent * density).ceil().clamp(min=1)
    excess = float(cells.prod(1).sum()) / max_cells
    while excess > 1 and bool((cells > 1).any()):
        density /= max(excess**0.5, 1.05)
        cells = (extent * density).ceil().clamp(min=1)
        excess = float(cells.prod(1).sum()) / max_cells
    return cells.long()
