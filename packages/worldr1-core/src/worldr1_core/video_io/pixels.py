"""Between 8-bit pixel arrays, as files hold them, and float frames in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldr1_core.video import Video


def to_float(images: list[NDArray[np.uint8]]) -> Tensor:
    """Stack `(H, W, 3)` uint8 images into `(T, 3, H, W)` float32; empties the list, so that memory peaks at 1.25 x."""
    height, width = images[0].shape[:2]
    frames = torch.empty(len(images), 3, height, width)
    for index in reversed(range(len(images))):
        frames[index] = torch.from_numpy(images.pop()).permute(2, 0, 1)
    return frames.div_(255)


def byte_images(video: Video) -> Iterator[NDArray[np.uint8]]:
    """Frames one by one as `(H, W, 3)` uint8 images, rounded to the nearest value."""
    for frame in video.frames.detach():
        scaled = frame.mul(255).round().clamp(0, 255).to("cpu", torch.uint8)
        yield scaled.permute(1, 2, 0).contiguous().numpy()
