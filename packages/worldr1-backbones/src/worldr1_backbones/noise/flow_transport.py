"""Noise moved by any optical flow: cells follow the image from frame to frame.

Positions are continuous, so that slow motion is not lost in rounding; noise values change at the latent frames only.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worldr1_backbones.noise.cells import CellImage, NoiseCells


def flow_noise(
    flow: Tensor,
    frames: Tensor,
    size: tuple[int, int],
    channels: int,
    generator: Generator,
    *,
    density: int,
    max_cells: int,
) -> Tensor:
    """Noise that moves with a flow.

    Args:
        flow: `(T - 1, 2, H_v, W_v)` video pixels, x then y, from each frame to the next; NaN where a pixel is not seen
        in
            the next frame.
        frames: `(K,)` int64 video frames that the latent frames show, ascending.
        size: `(H, W)` in latent pixels.
        channels: C.
        generator: Source of all randomness.
        density: Cells along the side of a latent pixel, even.
        max_cells: Largest number of cells; beyond it, close cells are merged.

    Returns:
        `(C, K, H, W)` float32; every frame is white N(0, 1).
    """
    image = CellImage(size, density)
    scale = torch.tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    cells = NoiseCells(channels, 2, generator)
    noise = torch.empty(channels, len(frames), *size)
    at = int(frames[0])
    for number, frame in enumerate(frames.tolist()):
        for step in flow[at:frame]:
            cells.place = cells.place + _sample(step, cells.place / scale) * scale
            cells.keep(image.inside(cells.place))
        at = frame
        if len(cells) > max_cells:
            image.merge_crowds(cells, cells.place, torch.ones(len(cells), dtype=torch.bool))
        everything = torch.ones(len(cells), dtype=torch.bool)
        image.complete(cells, cells.place, everything, lambda points, _: points)
        frame_noise = cells.gather(torch.arange(len(cells)), image.pixel(cells.place), size[0] * size[1])
        noise[:, number] = frame_noise.T.reshape(channels, *size)
    return noise


def _sample(flow: Tensor, points: Tensor) -> Tensor:
    """The flow `(2, H, W)` of the pixels in which points `(N, 2)` lie; nothing is mixed across motion boundaries."""
    height, width = flow.shape[-2:]
    column = points[:, 0].long().clamp(0, width - 1)
    row = points[:, 1].long().clamp(0, height - 1)
    return flow.flatten(1)[:, row * width + column].T
