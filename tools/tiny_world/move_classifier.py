"""Which of the nine camera moves does a clip show? A matcher that knows the tiny world's nine paths, and nothing else.

For each candidate path the middle frame is swept through planes of constant depth into the other frames. Depth is
chosen pixel by pixel on some frames and judged on the others, so that a path which merely has more freedom gains
nothing. Pixels are normalised by local mean and contrast first: neither blur nor a change of brightness decides.

It shares no code with a reward; but `camera-move-likelihood` has the same geometry, so a policy that was trained with
that one is judged by an estimated path (`trajectory`) too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_backbones.tiny.scenes import commanded_trajectory
from worldr1_core.camera.geometry import invert_pose
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import SINGLE_MOVES, Move

NUM_PLANES = 16
NEAREST, FARTHEST = 0.3, 2.4
"""Depths that are swept, in scene depths, evenly in inverse depth."""
WINDOW = 9
"""Side of the window of local mean and contrast, pixels."""
CONTRAST_FLOOR = 0.03
"""Contrast below which a patch counts as textureless, of the range [0, 1]."""


@dataclass(frozen=True, slots=True)
class Match:
    """How well each candidate explains each clip.

    Attributes:
        psnr: `(B, M)` re-rendering PSNR of normalised pixels on the judged frames, dB.
        best: `(B,)` index of the best candidate.
    """

    psnr: Tensor
    best: Tensor


def match_moves(frames: Tensor, candidates: Sequence[Sequence[Move]] | None = None) -> Match:
    """Compare clips with candidate paths.

    Args:
        frames: `(B, T, 3, H, W)` in [0, 1], H = W.
        candidates: Moves of each candidate; by default the nine single moves of `SINGLE_MOVES`.

    Raises:
        ValueError: The frames have another form.
    """
    if frames.ndim != 5 or frames.shape[2] != 3 or frames.shape[-1] != frames.shape[-2]:
        raise ValueError(f"frames must be (B, T, 3, H, H), received shape {tuple(frames.shape)!r}.")
    words = tuple((m,) for m in SINGLE_MOVES) if candidates is None else tuple(tuple(c) for c in candidates)
    normal = normalise_local_contrast(frames.float())
    psnr = torch.stack([_score(normal, moves) for moves in words], dim=1)
    return Match(psnr, psnr.argmax(1))


def normalise_local_contrast(frames: Tensor) -> Tensor:
    """Luminance minus its local mean, over its local standard deviation.

    Args:
        frames: `(B, T, 3, H, W)` in [0, 1].

    Returns:
        `(B, T, H, W)`, mostly in [-2, 2].
    """
    luma = (frames * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(2)
    pad = WINDOW // 2

    def blur(x: Tensor) -> Tensor:
        flat = functional.pad(x.flatten(0, 1)[:, None], (pad,) * 4, mode="reflect")
        return functional.avg_pool2d(flat, WINDOW, 1)[:, 0].view_as(x)

    centred = luma - blur(luma)
    return centred / (blur(centred**2) + CONTRAST_FLOOR**2).sqrt()


@torch.no_grad()
def _score(normal: Tensor, moves: tuple[Move, ...]) -> Tensor:
    """PSNR `(B,)` of one candidate."""
    batch, num_frames, height, width = normal.shape
    middle = num_frames // 2
    grid, inside = _sweep(moves, num_frames, height)
    others = [t for t in range(num_frames) if t != middle]
    flat = normal[:, others].transpose(0, 1)
    warped = torch.stack(
        [
            functional.grid_sample(frame[:, None], g.expand(batch, -1, -1, -1), align_corners=False)
            for frame, g in zip(flat, grid, strict=True)
        ]
    )
    warped = warped.view(len(others), batch, NUM_PLANES, height, width)
    error = (warped - normal[:, middle].view(batch, 1, height, width)) ** 2
    seen = inside.view(len(others), 1, NUM_PLANES, height, width)
    fit = torch.tensor([i % 2 == 1 for i, _ in enumerate(others)])
    # Every frame but the middle one serves both ways: depth chosen on one half is judged on the other.
    total, count = torch.zeros(batch), torch.zeros(batch)
    for choose, judge in ((fit, ~fit), (~fit, fit)):
        votes = seen[choose].sum(0)
        cost = (error[choose] * seen[choose]).sum(0) / votes.clamp(min=1)
        cost = functional.avg_pool2d(functional.pad(cost, (2, 2, 2, 2), mode="replicate"), 5, 1)
        cost = torch.where(votes.expand_as(cost) > 0, cost, 1e3)
        depth = cost.argmin(1, keepdim=True).expand(int(judge.sum()), batch, 1, height, width)
        known = seen[judge].expand(-1, batch, -1, -1, -1).gather(2, depth.transpose(1, 2).reshape(depth.shape))
        total += (error[judge].gather(2, depth) * known).sum((0, 2, 3, 4))
        count += known.sum((0, 2, 3, 4))
    return -10 * torch.log10(total / count.clamp(min=1) + 1e-6)


@lru_cache(maxsize=128)
def _sweep(moves: tuple[Move, ...], num_frames: int, size: int) -> tuple[Tensor, Tensor]:
    """Where each plane of the middle frame's pixels lies in the other frames.

    Returns:
        Sampling grids `(T - 1, D * H, W, 2)` for `grid_sample`, and whether they fall inside, `(T - 1, D, H, W)`.
    """
    path: CameraTrajectory = commanded_trajectory(moves, num_frames, size)
    assert path.intrinsics is not None
    K = path.intrinsics.float()
    centres = torch.arange(size) + 0.5
    y, x = torch.meshgrid((centres - K[1, 2]) / K[1, 1], (centres - K[0, 2]) / K[0, 0], indexing="ij")
    depth = 1 / torch.linspace(1 / FARTHEST, 1 / NEAREST, NUM_PLANES)
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1) * depth.view(-1, 1, 1, 1)
    to_frames = (invert_pose(path.c2w) @ path.c2w[num_frames // 2]).float()
    moved = torch.einsum("tij,dhwj->tdhwi", to_frames[:, :3, :3], points) + to_frames[:, None, None, None, :3, 3]
    z = moved[..., 2:].clamp(min=1e-3)
    grid = moved[..., :2] / z * (2 * K[0, 0] / size)
    inside = (grid.abs().amax(-1) < 1) & (moved[..., 2] > 0.02)
    keep = [t for t in range(num_frames) if t != num_frames // 2]
    return grid[keep].reshape(num_frames - 1, NUM_PLANES * size, size, 2), inside[keep].float()
