"""Players: several videos of the same length, shown side by side and in step.

The videos of a player are the tiles of one encoded video, which a script draws on one canvas each. So they cannot
drift apart, and the page holds one file for all. Without scripts, the browser's own player shows the tiled video.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from markupsafe import Markup
from torch import Tensor

from worldr1_core.frame_grid import pick_frames
from worldr1_core.pages.encoding import even, resize, video_uri
from worldr1_core.pages.templating import SHARED

TILE_SIDE = 256
"""Longer side of a tile at most, in pixels."""
MAX_FRAMES = 81
"""Longer videos are shown with evenly spaced frames."""
VIDEO_BYTES = 160 * 1024
"""Limit of a player's video before base64."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One video of a player.

    Attributes:
        title: Its name on the page.
        frames: `(T, 3, H, W)` RGB in [0, 1]; T and the ratio of H and W are those of the other streams.
        legend: Markup behind the title, such as a colour scale.
    """

    title: str
    frames: Tensor
    legend: Markup = field(default_factory=Markup)


def player(
    streams: Sequence[Stream],
    *,
    fps: float,
    label: str,
    numbers: Sequence[int] | None = None,
    num_frames: int | None = None,
    max_bytes: int = VIDEO_BYTES,
) -> Markup:
    """A player for one or several videos of equal length.

    Args:
        streams: Videos, in the order of reading; at most `MAX_FRAMES` frames of them are shown.
        fps: Frames per second of the whole video at full speed.
        label: Name of the player for screen readers.
        numbers: Numbers of the frames in the whole video; 0, 1, ... if left out.
        num_frames: Frames of the whole video; those of the streams if left out.
        max_bytes: Limit of the encoded video before base64.
    """
    chosen = pick_frames(len(streams[0].frames), MAX_FRAMES)
    numbers = range(len(streams[0].frames)) if numbers is None else numbers
    num_frames = len(streams[0].frames) if num_frames is None else num_frames
    size = _tile_size(streams[0].frames)
    num_columns = math.ceil(math.sqrt(len(streams)))
    rate = fps * len(chosen) / num_frames
    uri, encoded = video_uri(_tile(streams, chosen, size, num_columns), rate, max_bytes=max_bytes)
    return SHARED.render(
        "player.html.j2",
        label=label,
        uri=uri,
        encoded=encoded,
        fps=f"{rate:.6g}",
        frames=json.dumps([numbers[index] for index in chosen]),
        num_frames=num_frames,
        num_columns=num_columns,
        num_rows=math.ceil(len(streams) / num_columns),
        across=len(streams) if len(streams) <= 3 else num_columns,
        size=size,
        streams=streams,
    )


def _tile_size(frames: Tensor) -> tuple[int, int]:
    """`(H, W)` of a tile, both even. Small frames are enlarged by a whole factor, so that colours stay sharp."""
    height, width = frames.shape[-2:]
    longest = max(height, width)
    if longest > TILE_SIDE:
        scale = TILE_SIDE / longest
        return even(height * scale), even(width * scale)
    factor = max(1, TILE_SIDE // longest)
    return height * factor + height * factor % 2, width * factor + width * factor % 2


def _tile(streams: Sequence[Stream], chosen: Sequence[int], size: tuple[int, int], num_columns: int) -> Tensor:
    """The streams as tiles of one video `(T', 3, H', W')`, row by row; a tile that is left over is grey."""
    num_rows = math.ceil(len(streams) / num_columns)
    canvas = torch.full((len(chosen), 3, size[0] * num_rows, size[1] * num_columns), 0.5)
    for index, stream in enumerate(streams):
        row, column = divmod(index, num_columns)
        place = canvas[..., row * size[0] : (row + 1) * size[0], column * size[1] : (column + 1) * size[1]]
        place.copy_(_fit(stream.frames[list(chosen)].detach().cpu().float(), size))
    return canvas.clamp_(0, 1)


def _fit(frames: Tensor, size: tuple[int, int]) -> Tensor:
    if frames.shape[-2] >= size[0]:
        return resize(frames, size)
    return torch.nn.functional.interpolate(frames, size=size, mode="nearest-exact")
