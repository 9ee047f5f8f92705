"""Frames gathered one by one, at the size that is asked for, in a tensor that is allocated once."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from worldr1_core.errors import VideoError
from worldr1_core.video_io.memory import check_fits, too_large
from worldr1_core.video_io.pixels import limited_size, resize, square_size


class FrameBuffer:
    """Collects the frames of one clip; memory peaks at the frames that are kept plus one.

    Args:
        source: File or folder, for messages.
        capacity: Frames that are expected; more are possible, at the cost of a copy.
        max_side: Longest side of the frames that are kept, in pixels; `None` keeps their size.
    """

    def __init__(self, source: Path, capacity: int, max_side: int | None) -> None:
        self._source = source
        self._capacity = capacity
        self._max_side = max_side
        self._raw_size: tuple[int, int] | None = None
        self._full_size: tuple[int, int] | None = None
        self._frames: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def check_fits(self, raw_size: tuple[int, int], aspect: Fraction = Fraction(1)) -> None:
        """Refuse a clip that would not fit into memory, from the size that its header names.

        Raises:
            VideoError: It would not fit.
        """
        full_size = square_size(raw_size, aspect)
        size = limited_size(full_size, self._max_side)
        check_fits(self._source, self._capacity, size, full_size)

    def append(self, frame: Tensor, aspect: Fraction = Fraction(1), *, turned: bool = False) -> None:
        """Add a frame `(3, H, W)`, uint8 or floating point in [0, 1].

        Args:
            frame: The picture as it is shown, except for the shape of its pixels.
            aspect: Width of a pixel over its height, as stored; other pixels than square ones are resampled.
            turned: The picture was transposed after decoding, so that `aspect` stretches its height.

        Raises:
            VideoError: The size differs from that of the first frame, or the clip does not fit into memory.
        """
        raw_size = (int(frame.shape[-2]), int(frame.shape[-1]))
        if self._raw_size is not None and raw_size != self._raw_size:
            raise VideoError(
                f"{self._source}: frame {self._count} changes size from {self._raw_size!r} to {raw_size!r} (H, W)."
            )
        stored = raw_size[::-1] if turned else raw_size
        square = square_size((stored[0], stored[1]), aspect)
        full_size = (square[1], square[0]) if turned else square
        size = limited_size(full_size, self._max_side)
        if self._frames is None:
            self._raw_size, self._full_size = raw_size, full_size
            self._frames = self._allocate(size, full_size)
        elif self._count == len(self._frames):
            self._grow(size, full_size)
        white = 255 if frame.dtype == torch.uint8 else 1
        if full_size != raw_size:
            frame = resize(frame.to(torch.float32), full_size, "bicubic").clamp_(0, white)
        if size != full_size:
            frame = resize(frame.to(torch.float32), size, "bilinear")
        slot = self._frames[self._count].copy_(frame)
        if white != 1:
            slot.div_(white)
        self._count += 1

    def frames(self) -> Tensor:
        """`(T, 3, H, W)` float32 of what was appended, at least one frame."""
        assert self._frames is not None, "append first"
        return self._frames[: self._count]

    @property
    def full_size(self) -> tuple[int, int]:
        """`(H, W)` of the frames with square pixels, before `max_side`."""
        assert self._full_size is not None, "append first"
        return self._full_size

    def _grow(self, size: tuple[int, int], full_size: tuple[int, int]) -> None:
        smaller = self.frames()
        self._capacity = self._count + max(8, self._count // 4)
        self._frames = self._allocate(size, full_size)
        self._frames[: self._count] = smaller

    def _allocate(self, size: tuple[int, int], full_size: tuple[int, int]) -> Tensor:
        check_fits(self._source, self._capacity, size, full_size)
        try:
            return torch.empty(self._capacity, 3, *size)
        except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError when the system refuses
            raise too_large(self._source, self._capacity, size) from error
