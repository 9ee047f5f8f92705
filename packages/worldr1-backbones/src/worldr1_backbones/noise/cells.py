"""Noise cells: carriers of noise that move independently, split, merge and leave the view.

A cell has a mass n and a sum S ~ N(0, n), independent of all others. A latent pixel is the total S of its cells over
the root of their total n, hence N(0, 1), and independent of other pixels, for each cell lies in one pixel alone.
Splitting a cell into k gives each child S / k and zero-sum fresh noise of variance n / k (paper, section 1 of the
method, step 4): children are independent, and add up to their parent. Merging cells adds sums and masses. None of these
operations depends on the noise values, so every frame is exactly white.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

CHILDREN = 4
_QUARTERS = torch.tensor([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]])

Lift = Callable[[Tensor, Tensor | None], Tensor]
"""From points of the image `(N, 2)` in latent pixels, and the cells `(N,)` that they descend from, to their places."""


class NoiseCells:
    """Cells in some space.

    Args:
        channels: C of the noise.
        dimensions: D of the places: 2 for cells in the image, 3 for cells in the scene.
        generator: Source of all randomness.
    """

    def __init__(self, channels: int, dimensions: int, generator: Generator) -> None:
        self.place = torch.zeros(0, dimensions)
        self.mass = torch.zeros(0)
        self.sums = torch.zeros(0, channels)
        self._generator = generator

    def __len__(self) -> int:
        return int(self.mass.shape[0])

    def keep(self, mask: Tensor) -> None:
        """Drop all cells except those of `mask` `(N,)`."""
        self.place, self.mass, self.sums = self.place[mask], self.mass[mask], self.sums[mask]

    def add(self, place: Tensor, mass: Tensor) -> None:
        """Add cells at `place` `(M, D)` with masses `(M,)`."""
        sums = mass.sqrt().unsqueeze(1) * self._fresh(len(place))
        self._append(place, mass, sums)

    def part(self, parents: Tensor, places: Tensor) -> None:
        """Split each of the cells `parents` `(M,)` into `CHILDREN`, at `places` `(M, CHILDREN, D)`."""
        mass = self.mass[parents] / CHILDREN
        fresh = self._fresh(len(parents) * CHILDREN).view(len(parents), CHILDREN, self.sums.shape[1])
        fresh -= fresh.mean(1, keepdim=True)
        sums = self.sums[parents].unsqueeze(1) / CHILDREN + mass.sqrt()[:, None, None] * fresh
        rest = torch.ones(len(self), dtype=torch.bool)
        rest[parents] = False
        self.keep(rest)
        self._append(places.flatten(0, 1), mass.repeat_interleave(CHILDREN), sums.flatten(0, 1))

    def merge(self, group: Tensor) -> None:
        """Merge the cells with equal numbers in `group` `(N,)`, at the mean of their positions."""
        _, member, size = torch.unique(group, return_inverse=True, return_counts=True)
        total = len(size)
        self.place = torch.zeros(total, self.place.shape[1]).index_add_(0, member, self.place) / size.unsqueeze(1)
        self.mass = torch.zeros(total).index_add_(0, member, self.mass)
        self.sums = torch.zeros(total, self.sums.shape[1]).index_add_(0, member, self.sums)

    def gather(self, cells: Tensor, pixel: Tensor, num_pixels: int) -> Tensor:
        """Noise `(num_pixels, C)` of pixels that all hold a cell.

        Args:
            cells: `(M,)` indices of the cells in sight.
            pixel: `(M,)` int64 pixel in which each lies.
            num_pixels: Number of pixels.
        """
        sums = torch.zeros(num_pixels, self.sums.shape[1]).index_add_(0, pixel, self.sums[cells])
        return sums / torch.zeros(num_pixels).index_add_(0, pixel, self.mass[cells]).sqrt().unsqueeze(1)

    def _fresh(self, count: int) -> Tensor:
        return torch.randn(count, self.sums.shape[1], generator=self._generator)

    def _append(self, place: Tensor, mass: Tensor, sums: Tensor) -> None:
        self.place = torch.cat([self.place, place])
        self.mass = torch.cat([self.mass, mass])
        self.sums = torch.cat([self.sums, sums])


class CellImage:
    """Image of the cells in a latent frame; cells are added to empty pixels and split where they are sparse.

    Args:
        size: `(H, W)` in latent pixels.
        density: Cells along the side of a latent pixel, even.
    """

    def __init__(self, size: tuple[int, int], density: int) -> None:
        self.height, self.width = size
        self.density = density

    def inside(self, points: Tensor) -> Tensor:
        """Return a mask `(N,)` of the points `(N, 2)` that lie in the image; NaN points do not."""
        x, y = points.unbind(1)
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)

    def pixel(self, points: Tensor, parts: int = 1) -> Tensor:
        """Index `(N,)` of the pixel, or of one of its `parts` x `parts` parts, for points inside."""
        column = (points[:, 0] * parts).long().clamp(max=self.width * parts - 1)
        row = (points[:, 1] * parts).long().clamp(max=self.height * parts - 1)
        return row * (self.width * parts) + column

    def complete(self, cells: NoiseCells, points: Tensor, seen: Tensor, lift: Lift) -> tuple[Tensor, Tensor]:
        """Add cells to quarters of pixels that hold none; split cells in pixels with less than half of the full number.

        Args:
            cells: All cells; changed in place.
            points: `(N, 2)` their image in latent pixels.
            seen: `(N,)` bool: which of them are in sight; all of them lie inside.
            lift: Gives the places of new cells.

        Returns:
            Points and sight of all cells, as they are now.
        """
        points, seen = self._fill(cells, points, seen, lift)
        return self._refine(cells, points, seen, lift)

    def merge_crowds(self, cells: NoiseCells, points: Tensor, seen: Tensor) -> None:
        """Drop the cells out of view, and merge those that share one place of the full grid."""
        cells.keep(seen)
        cells.merge(self.pixel(points[seen], self.density))

    def _fill(self, cells: NoiseCells, points: Tensor, seen: Tensor, lift: Lift) -> tuple[Tensor, Tensor]:
        quarter = self.pixel(points[seen], 2)
        empty = torch.bincount(quarter, minlength=4 * self.height * self.width) == 0
        corner = empty.nonzero()[:, 0]
        side = self.density // 2
        row, column = torch.div(corner, 2 * self.width, rounding_mode="floor"), corner % (2 * self.width)
        offset = (torch.arange(side) + 0.5) / side
        y = (row[:, None, None] + offset[:, None]).expand(-1, side, side)
        x = (column[:, None, None] + offset).expand(-1, side, side)
        new = torch.stack([x, y], dim=-1).view(-1, 2) / 2
        # New cells weigh as much as those around them, so that a pixel is shared by area.
        pixel, num_pixels = self.pixel(points[seen]), self.height * self.width
        counts = torch.bincount(pixel, minlength=num_pixels)
        mass = torch.zeros(num_pixels).index_add_(0, pixel, cells.mass[seen]) / counts.clamp(min=1)
        mass = torch.where(counts > 0, mass, 1.0)
        cells.add(lift(new, None), mass[self.pixel(new)])
        return torch.cat([points, new]), torch.cat([seen, torch.ones(len(new), dtype=torch.bool)])

    def _refine(self, cells: NoiseCells, points: Tensor, seen: Tensor, lift: Lift) -> tuple[Tensor, Tensor]:
        pixel = self.pixel(points[seen])
        counts = torch.bincount(pixel, minlength=self.height * self.width)
        thin = counts[pixel] < self.density**2 / 2
        parents = seen.nonzero()[:, 0][thin]
        spacing = counts[pixel[thin]].float().rsqrt()[:, None, None]
        new = (points[parents].unsqueeze(1) + spacing * _QUARTERS).flatten(0, 1)
        # Children stay in the image, so that nothing of a pixel at its border is lost.
        limit = torch.tensor([float(self.width), float(self.height)]).nextafter(torch.zeros(2))
        new = torch.minimum(new.clamp(min=0), limit)
        places = lift(new, parents.repeat_interleave(CHILDREN)).view(len(parents), CHILDREN, cells.place.shape[1])
        rest = torch.ones(len(points), dtype=torch.bool)
        rest[parents] = False
        cells.part(parents, places)
        return torch.cat([points[rest], new]), torch.cat([seen[rest], torch.ones(len(new), dtype=torch.bool)])
