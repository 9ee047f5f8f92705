"""Images for a judge: checked, scaled down if too large, and converted to 8 bits."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

ImageFormat = Literal["png", "jpeg"]


def image_problem(images: Any) -> str | None:
    """Describe why images are not `(N, 3, H, W)` floats in [0, 1] with N >= 1, or return `None` if they are."""
    if not isinstance(images, Tensor):
        return f"The question's images must be a tensor (N, 3, H, W), received {type(images).__name__}."
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape) == 0 or not images.is_floating_point():
        return f"The question's images must be floats (N, 3, H, W), received {images.dtype} {tuple(images.shape)!r}."
    if not bool(torch.isfinite(images).all()):
        return "The question's images hold NaN or infinite values."
    return None


def limit_pixels(images: Tensor, max_pixels: int) -> Tensor:
    """Scale images down, keeping their shape, so that none has more than `max_pixels`; smaller ones stay untouched.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        max_pixels: Largest height × width.
    """
    height, width = images.shape[-2:]
    if height * width <= max_pixels:
        return images
    scale = math.sqrt(max_pixels / (height * width))
    size = (max(1, math.floor(height * scale)), max(1, math.floor(width * scale)))
    return functional.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)


def to_pil(images: Tensor) -> list[Image.Image]:
    """`(N, 3, H, W)` in [0, 1] to N RGB images of 8 bits, values clamped and rounded to the nearest level."""
    levels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(level) for level in levels]


def data_url(image: Image.Image, image_format: ImageFormat) -> str:
    """An image as a `data:` URL: PNG without loss, or JPEG at quality 95 without chroma subsampling."""
    buffer = io.BytesIO()
    if image_format == "png":
        image.save(buffer, format="PNG")
    else:
        image.save(buffer, format="JPEG", quality=95, subsampling=0)
    return f"data:image/{image_format};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
