"""Similarity of a re-render and the frames, in units that are comparable between rendered and filmed clips.

A squared error by itself depends on texture, contrast and noise. Two measures here do not:

- *agreement*: every pixel's error relative to what a displacement by a third of a pixel of a 64-pixel picture, and
  noise of three hundredths, would cause there. Fine texture is allowed larger errors than a plain wall, and counts
  more: a plain wall agrees whatever the geometry.
- *burst*: how far the error of one frame rises above that of its neighbours, after any displacement by up to two
  pixels is forgiven, as a share of the frames' variance. The errors of an honest clip change smoothly as its camera
  moves; what appears, vanishes or jumps shows as a burst, whatever the clip's own level of errors and contrast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_rewards import metrics

SIDE = 64
"""Shorter side in pixels at which pictures are compared."""
DISPLACEMENT = 0.35
"""Pixels at that side by which content may be off before a pixel loses half."""
NOISE = 0.03
"""Standard deviation of each colour channel that costs a plain pixel half."""
PLAIN_WEIGHT = 0.1
"""Weight of a pixel without texture, beside up to 1 more for texture."""
REACH = 2
"""Pixels at that side by which content may be displaced in `error_burst`."""
FLAT = 0.01
"""Standard deviation of each colour channel below which a picture counts as flat: its errors are not magnified."""
NEIGHBOURHOOD = 3
"""Frames on either side whose median error is what is usual for a frame."""


def agreement(prediction: Tensor, frames: Tensor, coverage: Tensor) -> Tensor:
    """Weighted mean over the covered pixels of 1 / (1 + e / (g d² + 3 n²)), `(T,)` in [0, 1].

    e is the squared error of RGB, averaged over 3 × 3 pixels; g the larger squared gradient of frame and re-render
    nearby, d = `DISPLACEMENT`, n = `NOISE`. The weight is `PLAIN_WEIGHT` + g / (g + 3 n²), times the coverage; NaN
    where nothing is covered.

    Args:
        prediction: `(T, 3, H, W)` re-render.
        frames: The same shape.
        coverage: `(T, H, W)` in [0, 1].
    """
    target, weight = metrics.shrink(frames, coverage, SIDE)
    shown, _ = metrics.shrink(prediction, coverage, SIDE)
    energy = torch.maximum(_gradient_energy(target), _gradient_energy(shown))
    energy = functional.max_pool2d(energy[:, None], 3, 1, 1)[:, 0]
    error = (shown - target).square().sum(1) * (weight > 0)
    padded = functional.pad(error[:, None], (1, 1, 1, 1), mode="replicate")
    local = functional.avg_pool2d(padded, 3, 1)[:, 0]
    share = 1 / (1 + local / (DISPLACEMENT**2 * energy + 3 * NOISE**2))
    texture = energy / (energy + 3 * NOISE**2)
    return metrics.masked_mean(share, weight * (PLAIN_WEIGHT + texture))


def _gradient_energy(images: Tensor) -> Tensor:
    """Squared gradient per pixel, summed over channels, `(T, h, w)`."""
    across = functional.pad(images[..., 2:] - images[..., :-2], (1, 1)) / 2
    down = functional.pad(images[..., 2:, :] - images[..., :-2, :], (0, 0, 1, 1)) / 2
    return (across.square() + down.square()).sum(1)


def error_burst(prediction: Tensor, frames: Tensor, coverage: Tensor) -> Tensor:
    """Largest rise of a frame's error above the median of the frames around it, over the variance of the frames.

    Pixels within `REACH` of the picture's border, or of an uncovered pixel, are left out: what a small displacement
    brings in there is not in the re-render, so it cannot be forgiven.

    Args:
        prediction: `(T, 3, H, W)` re-render.
        frames: The same shape.
        coverage: `(T, H, W)` in [0, 1].

    Returns:
        Without dimensions, >= 0; 0 where no pixel is left.
    """
    target, weight = metrics.shrink(frames, coverage, SIDE)
    shown, _ = metrics.shrink(prediction, coverage, SIDE)
    reached = within_reach(shown, target, weight, REACH)
    errors = metrics.masked_mean((reached - target).square().sum(1), _inner(weight, REACH))
    rises = []
    for frame, error in enumerate(errors):
        around = errors[max(0, frame - NEIGHBOURHOOD) : frame + NEIGHBOURHOOD + 1]
        rises.append(error - around.nanmedian())
    variance = target.var(dim=(-2, -1), correction=0).sum(1).mean()
    return torch.stack(rises).nan_to_num(0.0).max().clamp(min=0) / (variance + 3 * FLAT**2)


def _inner(coverage: Tensor, reach: int) -> Tensor:
    """1 at pixels all of whose neighbours within `reach` lie in the picture and are covered, else 0, `(N, h, w)`."""
    covered = functional.pad((coverage > 0).to(coverage)[:, None], (reach,) * 4)
    return -functional.max_pool2d(-covered, 2 * reach + 1, 1)[:, 0]


def within_reach(prediction: Tensor, target: Tensor, coverage: Tensor, reach: int) -> Tensor:
    """The image nearest to the target whose values all lie between those found near the same place in the prediction.

    Args:
        prediction: `(N, C, h, w)`.
        target: The same shape.
        coverage: `(N, h, w)`; where it is 0 the prediction says nothing, and the target is returned.
        reach: Half the side of the square neighbourhood, in pixels.
    """
    covered = coverage[:, None] > 0
    side = 2 * reach + 1
    high = functional.max_pool2d(prediction.masked_fill(~covered, -torch.inf), side, 1, reach)
    low = -functional.max_pool2d(-prediction.masked_fill(~covered, torch.inf), side, 1, reach)
    return torch.where(covered, torch.minimum(torch.maximum(target, low), high), target)
