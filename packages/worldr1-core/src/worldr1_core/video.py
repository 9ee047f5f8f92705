"""The video type that every package passes around."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_core.errors import VideoError


@dataclass(frozen=True, slots=True)
class Video:
    """Frames in memory.

    Frame i belongs to pose i of a camera path. The times at which frames were shown are not kept, since geometry does
    not depend on them: a file of variable frame rate is the sequence of its frames.

    Attributes:
        frames: `(T, 3, H, W)` float32 RGB in [0, 1], T >= 1, finite.
        fps: Frames per second, > 0; the mean of a file with a variable rate.
        source: File or folder the frames came from, for messages; `None` if they were made in memory.
        full_size: `(H, W)` that the frames had before they were read smaller (`max_side` of `read_video`), to which
            intrinsics given for the file refer; `None` if they were made in memory.

    Raises:
        VideoError: The frames do not have this form.
    """

    frames: Tensor
    fps: float = 16.0
    source: str | None = None
    full_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        name = self.source or "video"
        frames = self.frames
        if not isinstance(frames, Tensor) or frames.ndim != 4 or frames.shape[1] != 3 or min(frames.shape) == 0:
            received = tuple(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
            raise VideoError(f"{name}: frames must be a tensor (T, 3, H, W), received {received!r}.")
        if frames.dtype != torch.float32:
            raise VideoError(f"{name}: frames must be float32 in [0, 1], received {frames.dtype}. Divide uint8 by 255.")
        # One pass without temporaries: a clip may take most of the memory. NaN and infinity show in the extremes.
        low, high = (float(extreme) for extreme in torch.aminmax(frames.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            count = int((~torch.isfinite(frames)).sum())
            raise VideoError(f"{name}: {count} values are NaN or infinite. Decode or generate the video again.")
        if low < -1e-4 or high > 1 + 1e-4:
            raise VideoError(
                f"{name}: values must lie in [0, 1], received [{low:.4g}, {high:.4g}]. Rescale the frames."
            )
        if not 0 < self.fps < math.inf:
            raise VideoError(f"{name}: fps must be positive and finite, received {self.fps!r}.")

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.frames.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.frames.shape[2]), int(self.frames.shape[3])
