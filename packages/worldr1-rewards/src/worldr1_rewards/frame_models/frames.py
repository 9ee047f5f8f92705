"""Preparation of frames for image models, as VBench prepares them: on tensors, without antialiasing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 224
"""Side of the pictures in pixels."""
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def for_clip(frames: Tensor, side: int = SIDE) -> Tensor:
    """Scale the shorter side by bicubic interpolation, cut the centre, and normalise for CLIP.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1].
        side: Side of the result in pixels.

    Returns:
        `(T, 3, side, side)`.
    """
    scaled = functional.interpolate(frames, size=_shorter_side(frames, side), mode="bicubic", align_corners=False)
    top, left = (round((length - side) / 2.0) for length in scaled.shape[-2:])
    return _normalise(scaled[..., top : top + side, left : left + side], CLIP_MEAN, CLIP_STD)


def for_dino(frames: Tensor, side: int = SIDE) -> Tensor:
    """Scale the shorter side by bilinear interpolation and normalise for DINO; nothing is cut.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1].
        side: Shorter side of the result in pixels.

    Returns:
        `(T, 3, h, w)` with `min(h, w) == side`.
    """
    scaled = functional.interpolate(frames, size=_shorter_side(frames, side), mode="bilinear", align_corners=False)
    return _normalise(scaled, IMAGENET_MEAN, IMAGENET_STD)


def at_most(frames: Tensor, longer_side: int) -> Tensor:
    """Shrink frames by bilinear interpolation until the longer side fits; smaller ones are returned unchanged.

    Args:
        frames: `(T, 3, H, W)`.
        longer_side: Largest length in pixels.
    """
    height, width = frames.shape[-2:]
    if max(height, width) <= longer_side:
        return frames
    scale = longer_side / max(height, width)
    size = [int(height * scale), int(width * scale)]
    return functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)


def _shorter_side(frames: Tensor, side: int) -> list[int]:
    """Size with the given shorter side; the longer one is cut to whole pixels, as torchvision does."""
    height, width = frames.shape[-2:]
    return [side, int(side * width / height)] if height <= width else [int(side * height / width), side]


def _normalise(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    centre, spread = (
        torch.tensor(values, device=frames.device, dtype=frames.dtype)[:, None, None] for values in (mean, std)
    )
    return (frames - centre) / spread
