"""Pictures and videos as data URIs whose size has a limit, so that a page with many of them can still be opened."""

from __future__ import annotations

import base64
import io
import math
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from worldr1_core.video import Video
from worldr1_core.video_io import write_video

_QUALITIES = (90, 80, 68, 55)
_SMALLEST_SIDE = 16
_GOOD, _COARSE = 23, 32
"""H.264 rate factors: 23 looks good, 32 shows blocks."""


def image_uri(image: Image.Image, *, max_bytes: int) -> str:
    """A WebP data URI of about `max_bytes` before base64 at most: quality gives way first, then size.

    Args:
        image: Picture.
        max_bytes: Limit. A picture is not made smaller than a few pixels, whatever the limit.
    """
    for quality in _QUALITIES:
        encoded = _webp(image, quality)
        if len(encoded) <= max_bytes:
            break
    while len(encoded) > max_bytes and min(image.size) > _SMALLEST_SIDE:
        factor = max(0.5, min(0.9, math.sqrt(max_bytes / len(encoded))))
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
        encoded = _webp(image, _QUALITIES[-1])
    return _uri("image/webp", encoded)


def video_uri(frames: Tensor, fps: float, *, max_bytes: int) -> tuple[str, tuple[int, int]]:
    """An MP4 (H.264) data URI of about `max_bytes` before base64 at most: quality gives way first, then size.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1], with even H and W.
        fps: Frames per second.
        max_bytes: Limit. A video is not made smaller than a few pixels, whatever the limit.

    Returns:
        The URI, and the size (H, W) of the encoded video.
    """
    encoded = _mp4(frames, fps, _GOOD)
    if len(encoded) > max_bytes:
        encoded = _mp4(frames, fps, _COARSE)
    while len(encoded) > max_bytes and min(frames.shape[-2:]) > _SMALLEST_SIDE:
        scale = max(0.3, min(0.85, 0.95 * math.sqrt(max_bytes / len(encoded))))
        frames = resize(frames, (even(frames.shape[-2] * scale), even(frames.shape[-1] * scale)))
        encoded = _mp4(frames, fps, _COARSE)
    return _uri("video/mp4", encoded), (int(frames.shape[-2]), int(frames.shape[-1]))


def resize(images: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Images `(N, C, H, W)` at another size `(H, W)`; averaged when they shrink, unchanged when it is theirs."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return torch.nn.functional.interpolate(images, size=tuple(size), mode="bilinear", antialias=True)


def even(length: float) -> int:
    """Return the nearest even number of pixels, at least 2, as H.264 needs it."""
    return max(2, 2 * round(length / 2))


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()


def _mp4(frames: Tensor, fps: float, crf: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Video(frames, fps), Path(folder) / "video.mp4", crf=crf)
        return path.read_bytes()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
