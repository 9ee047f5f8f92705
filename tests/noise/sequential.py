"""Sequential noise transport at a multiple of the latent's resolution: what `camera-warp` is measured against.

Written from the description of the method alone (paper, section 1, steps 3 to 5). Frame by frame: every pixel moves to
the nearest pixel of its target; where several arrive, they are added over the root of their number; where none
arrives, the pixel at the start of the flow is copied, and copies of one pixel share its value over the root of their
number, plus zero-sum fresh noise. Which pixels are copies of one is found by their value, which takes a sort of both
fields a frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory


def plane_step(before: Tensor, after: Tensor, size: tuple[int, int], depth: float = 1000.0) -> Tensor:
    """Flow `(2, H, W)` between two cameras, point by point: out to the plane, over to the other camera, and back."""
    height, width = size
    focal = 1.2 * width
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(x - width / 2) / focal, (y - height / 2) / focal, torch.ones_like(x)]) * depth
    motion = torch.linalg.inv(after) @ before
    points = (motion[:3, :3].float() @ rays.view(3, -1) + motion[:3, 3:].float()).view(3, height, width)
    return torch.stack([points[0] / points[2] * focal + width / 2 - x, points[1] / points[2] * focal + height / 2 - y])


def transport(noise: Tensor, flow: Tensor, generator: torch.Generator) -> Tensor:
    """One step: noise `(C, H, W)` moves with a flow `(2, H, W)`."""
    channels, height, width = noise.shape
    here_y, here_x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    step_x, step_y = flow.round().long()
    to, stays = _index(here_x + step_x, here_y + step_y, height, width)
    back, known = _index(here_x - step_x, here_y - step_y, height, width)
    flat = noise.reshape(channels, -1)
    arrivals = torch.bincount(to[stays], minlength=height * width)
    pulled = torch.where(known, flat[:, back], torch.randn(flat.shape, generator=generator))
    expands = arrivals == 0
    # Pixels where something arrives need no copy: a value of their own keeps them out of the groups.
    pulled = torch.where(expands, pulled, torch.randn(flat.shape, generator=generator))
    pushed = torch.where(stays, flat, torch.randn(flat.shape, generator=generator))
    pushed, pulled = _share(torch.cat([pushed, pulled], dim=1), generator).chunk(2, dim=1)
    moved = torch.zeros_like(flat).index_add_(1, to[stays], pushed[:, stays])
    moved /= arrivals.clamp(min=1).sqrt()
    return torch.where(expands, pulled, moved).view(channels, height, width)


def _share(values: Tensor, generator: torch.Generator) -> Tensor:
    """Copies of one value become independent: value / sqrt(count) + zero-sum fresh noise."""
    _, group, count = torch.unique(values[0], return_inverse=True, return_counts=True)
    fresh = torch.randn(values.shape, generator=generator)
    mean = torch.zeros(len(values), len(count)).index_add_(1, group, fresh) / count
    return values / count[group].sqrt() + fresh - mean[:, group]


def _index(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return torch.where(inside, y * width + x, 0).flatten(), inside.flatten()


def shrink(noise: Tensor, factor: int) -> Tensor:
    """Sums over `factor` x `factor` pixels, over the root of their number."""
    channels, height, width = noise.shape
    blocks = noise.view(channels, height // factor, factor, width // factor, factor)
    return blocks.sum(dim=(2, 4)) / factor


def sequential_frames(
    path: CameraTrajectory,
    size: tuple[int, int],
    channels: int,
    *,
    factor: int = 16,
    seed: int = 0,
    depth: float = 1000.0,
) -> Iterator[Tensor]:
    """Latent noise `(C, H, W)` of every video frame, one by one.

    Args:
        path: Poses of the video frames; the focal length is 1.2 x width.
        size: `(H, W)` in latent pixels.
        channels: C.
        factor: Resolution of the transport over that of the latent.
        seed: Of all randomness.
        depth: Distance of the plane in front of every camera.
    """
    fine = (size[0] * factor, size[1] * factor)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(channels, *fine, generator=generator)
    yield shrink(noise, factor)
    for before, after in zip(path.c2w[:-1], path.c2w[1:], strict=True):
        noise = transport(noise, plane_step(before, after, fine, depth), generator)
        yield shrink(noise, factor)
