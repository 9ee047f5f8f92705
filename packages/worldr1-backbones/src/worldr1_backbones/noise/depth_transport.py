"""Noise on a scene of known depth: cells are fixed in the scene, and the camera moves past them.

A cell that is hidden or out of view is kept, so that the camera finds the same noise when it sees the place again.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from worldr1_backbones.noise.cells import CellImage, NoiseCells
from worldr1_core.camera.geometry import invert_pose

SAME_SURFACE = 0.05
"""A cell is in sight where its depth is that of the frame's surface, within this share of it."""


class _View:
    """One latent frame: its camera, and the depth of what it shows."""

    def __init__(self, c2w: Tensor, intrinsics: Tensor, depth: Tensor, image: CellImage) -> None:
        self._c2w = c2w.float()
        self._w2c = invert_pose(c2w).float()
        self._focal = intrinsics.diagonal()[:2].float()
        self._centre, self._skew = intrinsics[:2, 2].float(), float(intrinsics[0, 1])
        self._depth = depth.float()
        self._image = image
        # Neighbours count too: a slanted surface has several depths within a pixel.
        padded = functional.pad(self._depth[None, None], (1, 1, 1, 1), mode="replicate")
        self._far = functional.max_pool2d(padded, 3, stride=1)[0, 0] * (1 + SAME_SURFACE)
        self._near = -functional.max_pool2d(-padded, 3, stride=1)[0, 0] * (1 - SAME_SURFACE)

    def project(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Image points `(N, 2)` of places in the scene `(N, 3)`, and which of them are in sight."""
        camera = places @ self._w2c[:3, :3].T + self._w2c[:3, 3]
        z = camera[:, 2]
        ray = camera[:, :2] / torch.where(z > 0, z, torch.nan).unsqueeze(1)
        points = ray * self._focal + self._centre
        points[:, 0] += self._skew * ray[:, 1]
        inside = self._image.inside(points)
        pixel = self._video_pixel(torch.where(inside.unsqueeze(1), points, 0.0))
        return points, inside & (z <= self._far.flatten()[pixel]) & (z >= self._near.flatten()[pixel])

    def lift(self, points: Tensor, depth: Tensor | None = None) -> Tensor:
        """Places `(N, 3)` of image points `(N, 2)`, at the frame's depth or at `depth` `(N,)`."""
        z = self._depth.flatten()[self._video_pixel(points)] if depth is None else depth
        y = (points[:, 1] - self._centre[1]) / self._focal[1]
        x = (points[:, 0] - self._centre[0] - self._skew * y) / self._focal[0]
        camera = torch.stack([x, y, torch.ones_like(x)], dim=1) * z.unsqueeze(1)
        return camera @ self._c2w[:3, :3].T + self._c2w[:3, 3]

    def depth_of(self, places: Tensor) -> Tensor:
        """Depth `(N,)` of places in the scene."""
        return places @ self._w2c[2, :3] + self._w2c[2, 3]

    def _video_pixel(self, points: Tensor) -> Tensor:
        height, width = self._depth.shape
        column = (points[:, 0] * (width / self._image.width)).long().clamp(0, width - 1)
        row = (points[:, 1] * (height / self._image.height)).long().clamp(0, height - 1)
        return row * width + column


def depth_noise(
    depth: Tensor,
    c2w: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
    channels: int,
    generator: Generator,
    *,
    density: int,
    max_cells: int,
) -> Tensor:
    """Noise that rests on the surfaces of a scene.

    Args:
        depth: `(K, H_v, W_v)` z-depth of every latent frame at the video's size, in the unit of the poses.
        c2w: `(K, 4, 4)` their poses, camera-to-world.
        intrinsics: `(3, 3)` in latent pixels.
        size: `(H, W)` in latent pixels.
        channels: C.
        generator: Source of all randomness.
        density: Cells along the side of a latent pixel, even.
        max_cells: Largest number of cells; beyond it, cells out of view are dropped and close cells are merged.

    Returns:
        `(C, K, H, W)` float32; every frame is white N(0, 1).
    """
    image = CellImage(size, density)
    cells = NoiseCells(channels, 3, generator)
    noise = torch.empty(channels, len(depth), *size)
    for number in range(len(depth)):
        view = _View(c2w[number], intrinsics, depth[number], image)

        def lift(points: Tensor, parents: Tensor | None, view: _View = view) -> Tensor:
            return view.lift(points, None if parents is None else view.depth_of(cells.place[parents]))

        points, seen = view.project(cells.place)
        if len(cells) > max_cells:
            image.merge_crowds(cells, points, seen)
            points, seen = view.project(cells.place)
        points, seen = image.complete(cells, points, seen, lift)
        visible = seen.nonzero()[:, 0]
        frame_noise = cells.gather(visible, image.pixel(points[visible]), size[0] * size[1])
        noise[:, number] = frame_noise.T.reshape(channels, *size)
    return noise
