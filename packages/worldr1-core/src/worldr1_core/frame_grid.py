"""Frames of videos side by side in one labelled picture: every contact sheet of the packages is drawn here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def pick_frames(num_frames: int, count: int) -> list[int]:
    """At most `count` evenly spaced frame indices, first and last included; the first alone for a count of 1.

    Example:
        >>> pick_frames(17, 5)
        [0, 4, 8, 12, 16]
    """
    if num_frames <= count:
        return list(range(num_frames))
    return [round(index * (num_frames - 1) / max(1, count - 1)) for index in range(count)]


def frame_grid(
    rows: Sequence[Tensor],
    *,
    titles: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    side: int | None = None,
    gap: int = 4,
) -> Image.Image:
    """Draw rows of frames as one RGB picture on white.

    Args:
        rows: Frames `(N, 3, H, W)` RGB in [0, 1] of each row, at least one row; N may differ between rows. Every frame
            is drawn at the size of the first row's.
        titles: A line of text above each row, shortened where it is too long; an empty string takes no space.
        names: A word to the left of each row.
        columns: A word above each column.
        side: Longer side of a frame in the picture, in pixels; the frames' own if `None`. A whole multiple of the
            frame's size repeats its pixels; any other size is resampled.
        gap: White pixels between frames, and between rows.

    Raises:
        ValueError: There is no row, a row is not `(N, 3, H, W)`, or the number of titles or names is not that of the
            rows.
    """
    _check(rows, titles, names)
    height, width = _tile_size(rows[0], side)
    points = max(10, min(16, width // 16))
    font, line = ImageFont.load_default(points), round(1.6 * points)
    margin = 0 if names is None else round(max(font.getlength(name) for name in names)) + 2 * gap + 4
    header = 0 if columns is None else line
    heads = [line if titles is not None and titles[row] else 0 for row in range(len(rows))]
    num_columns = max(len(row) for row in rows)
    size = (margin + num_columns * (width + gap) - gap, header + sum(heads) + len(rows) * (height + gap) - gap)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for column, word in enumerate(columns or ()):
        draw.text((margin + column * (width + gap) + width / 2, line / 2), word, "black", font, "mm")
    top = header
    for index, row in enumerate(rows):
        if titles is not None and heads[index]:
            draw.text((3, top + 2), _shorten(titles[index], font, picture.width - 6), "black", font)
        top += heads[index]
        if names is not None:
            draw.text((gap + 2, top + height / 2), names[index], "black", font, "lm")
        for column, frame in enumerate(row):
            picture.paste(_tile(frame, (width, height)), (margin + column * (width + gap), top))
        top += height + gap
    return picture


def _check(rows: Sequence[Tensor], titles: Sequence[str] | None, names: Sequence[str] | None) -> None:
    if not rows:
        raise ValueError("A frame grid needs at least one row of frames, received none.")
    for row in rows:
        if row.ndim != 4 or row.shape[1] != 3:
            raise ValueError(f"A row of a frame grid is (N, 3, H, W), received shape {tuple(row.shape)!r}.")
    for what, words in (("titles", titles), ("names", names)):
        if words is not None and len(words) != len(rows):
            raise ValueError(f"Give one of `{what}` per row: received {len(words)} for {len(rows)} rows.")


def _tile_size(frames: Tensor, side: int | None) -> tuple[int, int]:
    """`(H, W)` of a frame in the picture."""
    height, width = int(frames.shape[-2]), int(frames.shape[-1])
    scale = 1.0 if side is None else side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _tile(frame: Tensor, size: tuple[int, int]) -> Image.Image:
    """A frame `(3, H, W)` as a picture of `size` (W, H)."""
    pixels = (frame.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    tile = Image.fromarray(np.ascontiguousarray(pixels))
    whole = size[0] % tile.width == 0 and size[1] % tile.height == 0
    return tile.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten text to one line of at most `width` pixels, with an ellipsis where it was cut."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
