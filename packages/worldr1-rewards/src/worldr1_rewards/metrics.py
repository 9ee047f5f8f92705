"""Image metrics between frames and their re-render, each averaged only over pixels that the re-render covers.

All functions take `(N, C, H, W)` images in [0, 1] and return one value an image, `(N,)`; NaN where nothing is covered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.errors import VideoError
from worldr1_rewards.reconstructors.pyramid import luma

MAX_PSNR = 100.0
"""PSNR reported for identical images, in dB."""
SSIM_K1, SSIM_K2 = 0.01, 0.03
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
EDGE_REACH = 4
"""Pixels over which `edge_sharpness` takes an edge to be complete."""
MIN_EDGE = 1e-3
"""Luminance step below which an image has no edges."""


def masked_mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted mean over all but the first dimension.

    Args:
        values: `(N, H, W)`.
        weight: `(N, H, W)`, >= 0; equal weights when left out.

    Returns:
        `(N,)`; NaN where the weights sum to 0.

    Example:
        >>> masked_mean(torch.tensor([[[1.0, 5.0]]]), torch.tensor([[[1.0, 0.0]]]))
        tensor([1.])
    """
    if weight is None:
        return values.flatten(1).mean(1)
    total = weight.flatten(1).sum(1)
    covered = total > 0  # chosen before the division, so that an image without weight has no gradient instead of NaN
    mean = (values * weight).flatten(1).sum(1) / torch.where(covered, total, 1)
    return torch.where(covered, mean, torch.nan)


def psnr(prediction: Tensor, target: Tensor, coverage: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(1 / MSE), in dB.

    Args:
        prediction: `(N, C, H, W)` in [0, 1].
        target: The same shape.
        coverage: `(N, H, W)` in [0, 1], weight of every pixel.

    Returns:
        `(N,)` in dB, at most `MAX_PSNR`; higher is better.

    Raises:
        VideoError: The shapes differ.

    Example:
        >>> psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)).round()
        tensor([20.])
    """
    _check(prediction, target, coverage)
    error = masked_mean((prediction - target).square().mean(1), coverage)
    return -10 * torch.log10(error.clamp(min=10 ** (-MAX_PSNR / 10)))


def ssim(prediction: Tensor, target: Tensor, coverage: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang et al., 2004): Gaussian window of 11 pixels, sigma 1.5, mean over the channels.

    Only windows that lie inside the image count. With `coverage`, a window weighs as much as its least covered pixel.

    Args:
        prediction: `(N, C, H, W)` in [0, 1].
        target: The same shape.
        coverage: `(N, H, W)` in [0, 1].

    Returns:
        `(N,)` in [-1, 1]; higher is better.

    Raises:
        VideoError: The shapes differ.
    """
    _check(prediction, target, coverage)
    window = min(SSIM_WINDOW, *(side - 1 + side % 2 for side in target.shape[-2:]))
    similarity = ssim_map(prediction, target, window)
    weight = None
    if coverage is not None:
        weight = -functional.max_pool2d(-coverage[:, None], window, stride=1)[:, 0]
    return masked_mean(similarity, weight)


def ssim_map(prediction: Tensor, target: Tensor, window: int = SSIM_WINDOW) -> Tensor:
    """SSIM of every whole window, `(N, H - window + 1, W - window + 1)`; see `ssim`."""
    mean_a, mean_b = _window(prediction, window), _window(target, window)
    var_a = _window(prediction.square(), window) - mean_a.square()
    var_b = _window(target.square(), window) - mean_b.square()
    covariance = _window(prediction * target, window) - mean_a * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return (luminance * (2 * covariance + c2) / (var_a + var_b + c2)).mean(1)


def contrast_psnr(prediction: Tensor, target: Tensor, coverage: Tensor | None = None, floor: float = 0.02) -> Tensor:
    """PSNR of errors measured in units of the target's own contrast: a soft scene is judged as strictly as a rich one.

    The error is divided by the target's standard deviation over the covered pixels, plus `floor`; 0 dB means that the
    prediction is no better than a flat image of the right mean colour.

    Args:
        prediction: `(N, C, H, W)` in [0, 1].
        target: The same shape.
        coverage: `(N, H, W)` in [0, 1].
        floor: Contrast of an image without texture, so that its noise is not magnified; in (0, 1].

    Returns:
        `(N,)` in dB, at most `MAX_PSNR`; higher is better.

    Raises:
        VideoError: The shapes differ.
    """
    _check(prediction, target, coverage)
    error = masked_mean((prediction - target).square().mean(1), coverage)
    channel_means = torch.stack([masked_mean(channel, coverage) for channel in target.unbind(1)], dim=1).nan_to_num()
    variance = masked_mean((target - channel_means[..., None, None]).square().mean(1), coverage)
    # The root is vertical at 0: a flat image has a contrast of 0, and no gradient of it.
    contrast = torch.where(variance > 0, torch.where(variance > 0, variance, 1).sqrt(), 0)
    ratio = error / (contrast + floor).square()
    return -10 * torch.log10(ratio.clamp(min=10 ** (-MAX_PSNR / 10)))


def unexplained_share(
    prediction: Tensor, target: Tensor, coverage: Tensor | None = None, *, side: int = 16, floor: float = 0.02
) -> Tensor:
    """Squared error over the target's variance, after averaging both down to a coarse size.

    0 is a perfect prediction, 1 one that is no better than a flat image of the right mean colour. The coarse size makes
    the figure comparable between resolutions, and blind to sensor noise and to the pixels at the rims of objects.

    Args:
        prediction: `(N, C, H, W)` in [0, 1].
        target: The same shape.
        coverage: `(N, H, W)` in [0, 1], weight of every pixel.
        side: Shorter side in pixels at which images are compared; smaller images are compared as they are.
        floor: Standard deviation added to the target's own, so that an image without texture is not magnified.

    Returns:
        `(N,)`, >= 0; lower is better; NaN where nothing is covered.

    Raises:
        VideoError: The shapes differ.
    """
    _check(prediction, target, coverage)
    weight = torch.ones_like(target[:, 0]) if coverage is None else coverage
    small_target, small_weight = shrink(target, weight, side)
    small_prediction, _ = shrink(prediction, weight, side)
    return 10 ** (-contrast_psnr(small_prediction, small_target, small_weight, floor) / 10)


def edge_sharpness(images: Tensor, side: int = 64) -> Tensor:
    """Sharpness of the sharpest edges at `side` pixels: 0 in the limit of blur, 1 for steps between adjacent pixels.

    With d(k) the 99.8th percentile of the luminance differences over k pixels, the ratio d(1) / d(4) is 1 at a step and
    1/4 on any smooth ramp, whatever the contrast; the result is that ratio, rescaled to [0, 1]. Noise counts as sharp.

    Args:
        images: `(N, 3, H, W)` RGB in [0, 1], at least 8 pixels on each side.
        side: Shorter side in pixels at which is looked; smaller images stay as they are.

    Returns:
        `(N,)` in [0, 1]; NaN for images without contrast.
    """
    small, _ = shrink(images, torch.ones_like(images[:, 0]), side)
    luminance = luma(small)[:, 0]
    near, far = (_steepest(luminance, reach) for reach in (1, EDGE_REACH))
    ratio = torch.where(far > MIN_EDGE, near / far.clamp(min=MIN_EDGE), torch.nan)
    return ((ratio * EDGE_REACH - 1) / (EDGE_REACH - 1)).clamp(0, 1)


def _steepest(luminance: Tensor, reach: int) -> Tensor:
    """99.8th percentile of absolute differences over `reach` pixels, `(N,)`."""
    across = (luminance[:, :, reach:] - luminance[:, :, :-reach]).abs().flatten(1)
    down = (luminance[:, reach:] - luminance[:, :-reach]).abs().flatten(1)
    return torch.stack([torch.quantile(both, 0.998) for both in torch.cat([across, down], dim=1)])


def shrink(images: Tensor, weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Weighted area average to a shorter side of `side` pixels.

    Args:
        images: `(N, C, H, W)`.
        weight: `(N, H, W)`, >= 0.
        side: Shorter side in pixels; smaller images stay as they are.

    Returns:
        Images `(N, C, h, w)`, 0 where nothing has weight, and mean weights `(N, h, w)`.
    """
    factor = min(images.shape[-2:]) / side
    if factor <= 1:
        return images, weight
    size = [max(1, round(length / factor)) for length in images.shape[-2:]]
    small_weight = functional.interpolate(weight[:, None], size=size, mode="area")
    total = functional.interpolate(images * weight[:, None], size=size, mode="area")
    return total / small_weight.clamp(min=1e-6), small_weight[:, 0]


def _window(images: Tensor, window: int) -> Tensor:
    """Gaussian means of whole windows."""
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    kernel = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    weights = (kernel / kernel.sum()).tolist()
    # No convolution: on CUDA it rounds to TF32 by default, by more than the variance of a smooth window.
    for axis in (-1, -2):
        length = images.shape[axis] - window + 1
        total = weights[0] * images.narrow(axis, 0, length)
        for start, weight in enumerate(weights[1:], 1):
            total = total.add(images.narrow(axis, start, length), alpha=weight)
        images = total
    return images


def _check(prediction: Tensor, target: Tensor, coverage: Tensor | None) -> None:
    if prediction.ndim != 4 or prediction.shape != target.shape:
        raise VideoError(
            f"Images to compare must both be (N, C, H, W), received {tuple(prediction.shape)!r} and "
            f"{tuple(target.shape)!r}."
        )
    expected = (target.shape[0], *target.shape[2:])
    if coverage is not None and coverage.shape != expected:
        raise VideoError(f"coverage must be {expected!r}, received {tuple(coverage.shape)!r}.")
