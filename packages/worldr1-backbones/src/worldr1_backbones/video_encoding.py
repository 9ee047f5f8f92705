"""Encoding videos: the check of what goes in, and how models normalise the latents that their VAE gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldr1_core.backbone import LatentGeometry
from worldr1_core.errors import UserError

TOLERANCE = 1e-3
"""How far pixel values may leave [0, 1] by rounding."""


def check_frames(frames: Tensor, geometry: LatentGeometry) -> None:
    """Check videos that are to be encoded.

    Args:
        frames: `(B, T, 3, H, W)` RGB in [0, 1].
        geometry: Sizes of the model.

    Raises:
        UserError: They have another shape or type, or values that are not finite or lie outside [0, 1].
    """
    expected = (geometry.video_frames, 3, geometry.video_height, geometry.video_width)
    if frames.ndim != 5 or len(frames) < 1 or tuple(frames.shape[1:]) != expected:
        raise UserError(
            f"Videos to encode must be (B, T, 3, H, W) = (B, {', '.join(map(str, expected))}), received "
            f"{tuple(frames.shape)}. Cut and resize them, or change the backbone's num_frames, height and width."
        )
    if not frames.is_floating_point():
        raise UserError(f"Videos to encode must be floating-point RGB in [0, 1], received {frames.dtype}.")
    if not bool(torch.isfinite(frames).all()):
        raise UserError("Videos to encode hold NaN or infinite values.")
    low, high = (float(extreme) for extreme in torch.aminmax(frames))
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise UserError(f"Videos to encode must be RGB in [0, 1], received values from {low:.4g} to {high:.4g}.")


def normalise_by_channel(latents: Tensor, config: Any) -> Tensor:
    """Latents `(B, C, T, H, W)` minus `latents_mean`, over `latents_std` of the VAE's configuration (Wan)."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
    return (latents - mean.to(latents)) / std.to(latents)


def normalise_by_factor(latents: Tensor, config: Any) -> Tensor:
    """Latents `(B, C, T, H, W)` times `scaling_factor` of the VAE's configuration (CogVideoX)."""
    return latents * config.scaling_factor
