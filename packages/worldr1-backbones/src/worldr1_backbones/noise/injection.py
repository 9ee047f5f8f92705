"""Injection of camera-shaped noise into the sampler (paper, section 1 of the method, step 5).

Noises are `(C, T, H, W)` float32; `base` and `warped` are independent of each other and N(0, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FINAL_WEIGHT = 0.1
"""Weight of the last stepwise injection over that of the first (the authors' release)."""


def mix(base: Tensor, other: Tensor, weight: float) -> Tensor:
    """(base (1 - w) + other w) / sqrt(w^2 + (1 - w)^2): N(0, 1) again, and white if both are.

    It is the formula of degradation (`other` is fresh noise, w = alpha) and of blending (`other` is the warped noise).

    Args:
        base: `(...)`.
        other: `(...)`, independent of `base`.
        weight: w in [0, 1].
    """
    return (base * (1 - weight) + other * weight) / (weight**2 + (1 - weight) ** 2) ** 0.5


def box_filter(noise: Tensor, size: int) -> Tensor:
    """Mean over `size` x `size` pixels of every frame, zeros beyond the border; `size` is odd."""
    rows = functional.avg_pool2d(noise, (size, 1), stride=1, padding=(size // 2, 0))
    return functional.avg_pool2d(rows, (1, size), stride=1, padding=(0, size // 2))


def replace_low_frequencies(base: Tensor, warped: Tensor, strength: float, size: int) -> Tensor:
    """Base noise whose low spatial frequencies come from the warped noise; white.

    The low-pass delta base + s B (warped - base), with B the box filter, takes (1 - s B(f)) of the base and s B(f) of
    the warped noise at every frequency f. Their powers add up to less than 1, 0.55 at the lowest frequency for s =
    0.35; here each frequency is divided by the root of that sum. The border is periodic, so that this is exact.

    Args:
        base: `(C, T, H, W)`.
        warped: `(C, T, H, W)`.
        strength: s in [0, 1].
        size: Odd side of the box in latent pixels.
    """
    height, width = base.shape[-2:]
    share = strength * _box_response(height, size)[:, None] * _box_response(width, size)[None, : width // 2 + 1]
    gain = (share**2 + (1 - share) ** 2).rsqrt()
    spectrum = torch.fft.rfft2(base) * ((1 - share) * gain) + torch.fft.rfft2(warped) * (share * gain)
    return torch.fft.irfft2(spectrum, s=(height, width))


def add_lowpass_delta(base: Tensor, warped: Tensor, strength: float, size: int) -> Tensor:
    """The authors' released form: base + s B (warped - base), then mean 0 and std 1 over the whole latent.

    Its spectrum is not flat: low frequencies carry less power than white noise has.
    """
    moved = base + strength * box_filter(warped - base, size)
    return (moved - moved.mean()) / moved.std()


def stepwise_delta(base: Tensor, warped: Tensor, size: int) -> Tensor:
    """Low-passed difference between warped and base noise, at standard deviation 1 over the whole latent."""
    delta = box_filter(warped - base, size)
    return delta / delta.std()


def stepwise_weights(strength: float, num_steps: int) -> tuple[float, ...]:
    """Weights of the delta after steps 0, 1, ...: falling evenly to a tenth, `strength` in sum."""
    weights = torch.linspace(1.0, FINAL_WEIGHT, num_steps, dtype=torch.float64)
    return tuple((strength * weights / weights.sum()).tolist())


def _box_response(length: int, size: int) -> Tensor:
    """Real frequency response `(length,)` of the periodic box filter along one axis."""
    kernel = torch.zeros(length, dtype=torch.float64)
    offsets = torch.arange(-(size // 2), size // 2 + 1) % length
    kernel.index_add_(0, offsets, torch.full((size,), 1 / size, dtype=torch.float64))
    return torch.fft.fft(kernel).real.float()
