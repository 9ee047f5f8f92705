"""Between 8-bit pixel arrays, as files hold them, and float frames in [0, 1]; sizes and resampling."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from worldr1_core.video import Video


def byte_images(video: Video) -> Iterator[NDArray[np.uint8]]:
    """Frames one by one as `(H, W, 3)` uint8 images, rounded to the nearest value."""
    for frame in video.frames.detach():
        scaled = frame.mul(255).round().clamp(0, 255).to("cpu", torch.uint8)
        yield scaled.permute(1, 2, 0).contiguous().numpy()


def as_frame(image: NDArray[np.uint8]) -> Tensor:
    """An `(H, W, 3)` uint8 image as a `(3, H, W)` uint8 tensor that shares its memory."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def square_size(size: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """`(H, W)` with square pixels: the height stays, the width is multiplied by the pixel's aspect ratio."""
    return size[0], max(1, round(size[1] * aspect))


def limited_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """`(H, W)` shrunk in proportion until the longer side is at most `max_side`; never enlarged."""
    longest = max(size)
    if max_side is None or longest <= max_side:
        return size
    scale = max_side / longest
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize(frame: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """A `(3, H, W)` float frame at another size, antialiased where it shrinks; itself if the size is the same."""
    if tuple(frame.shape[-2:]) == size:
        return frame
    return functional.interpolate(frame[None], size, mode=mode, antialias=True, align_corners=False)[0]
