"""Contact sheets: one clip a row, every frame of it beside the other, enlarged so that pixels can be seen."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor


def contact_sheet(path: Path, clips: Tensor, *, enlarge: int = 2, gap: int = 2) -> None:
    """Write a PNG.

    Args:
        path: The file.
        clips: `(N, T, 3, H, W)` in [0, 1].
        enlarge: Pixels of the sheet a pixel of the clip, along each axis.
        gap: White pixels between rows and frames.
    """
    count, num_frames, _, height, width = clips.shape
    sheet = Image.new("RGB", (num_frames * (width * enlarge + gap), count * (height * enlarge + gap)), "white")
    pixels = (clips.clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
    for row in range(count):
        for column in range(num_frames):
            tile = Image.fromarray(pixels[row, column]).resize(
                (width * enlarge, height * enlarge), Image.Resampling.NEAREST
            )
            sheet.paste(tile, (column * (width * enlarge + gap), row * (height * enlarge + gap)))
    sheet.save(path)
