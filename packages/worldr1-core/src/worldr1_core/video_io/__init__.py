"""Reading and writing of videos in every supported format.

| format | read | write | lossless |
|---|---|---|---|
| `.mp4` `.mov` `.mkv` `.webm` | yes | yes | with `lossless=True` (8 bits) |
| `.m4v` `.avi` | yes | no | |
| `.gif` | yes | yes | no (256 colours a frame) |
| animated `.webp` `.png` `.apng` | yes | no | |
| folder of `.png` `.jpg` `.jpeg` `.webp` `.bmp` images | yes | `.png` | yes (8 bits) |
| `.npy` `.npz` `(T, 3, H, W)` or `(T, H, W, 3)` | yes | yes | yes (float32) |
| `.safetensors`, key `frames` | yes | yes | yes (float32), keeps fps |
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from worldr1_core.errors import OutputError, VideoError, suggest
from worldr1_core.video import Video
from worldr1_core.video_io import animations, arrays, containers, encoding, images
from worldr1_core.video_io.find import CONTAINER_SUFFIXES, FILE_SUFFIXES, find_videos

__all__ = ["FILE_SUFFIXES", "find_videos", "read_video", "write_video"]

WRITABLE_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".gif", *arrays.SUFFIXES)


def read_video(path: str | os.PathLike[str], *, max_frames: int | None = None, max_side: int | None = None) -> Video:
    """Read a clip.

    Frames are as players show them: rotated and mirrored as the file says, with square pixels. If stored pixels are
    not square (a sample aspect ratio other than 1), the stored height stays and the width is multiplied by the ratio.
    Intrinsics given for a clip refer to the resulting size, `Video.full_size`.

    Frames are decoded one at a time, so that memory holds little more than the result: 12 bytes per pixel and frame.
    Timestamps are not used. Frame i is the i-th picture, and a file of variable frame rate is read like one of
    constant rate.

    Args:
        path: Video file, array file or folder of images; the suffix decides.
        max_frames: Read only the first frames; all of them by default.
        max_side: Shrink every frame (antialiased) until its longer side is at most this many pixels; smaller frames
            keep their size. By default no frame is shrunk.

    Returns:
        Frames `(T, 3, H, W)` float32 in [0, 1], with the file's frame rate (16 if the format has none).

    Raises:
        VideoError: There is no such file, it is empty, truncated, damaged, no video, or of an unknown format, or the
            frames do not fit into memory.
    """
    path = Path(path)
    for name, value in (("max_frames", max_frames), ("max_side", max_side)):
        if value is not None and value < 1:
            raise VideoError(f"{name} must be at least 1 or None, received {value!r}.")
    try:
        return _read(path, max_frames, max_side)
    except MemoryError as error:
        raise VideoError(
            f"{path}: does not fit into memory. Read it smaller (max_side of read_video), shorten it, or use a machine "
            "with more memory."
        ) from error


def _read(path: Path, max_frames: int | None, max_side: int | None) -> Video:
    if path.is_dir():
        return images.read_folder(path, max_frames, max_side)
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder.")
    suffix = path.suffix.lower()
    if suffix not in (*FILE_SUFFIXES, *animations.SUFFIXES):
        raise VideoError(
            f"{path}: unknown kind of file {path.suffix!r}. Allowed: {list(FILE_SUFFIXES)}, animated "
            f"{list(animations.SUFFIXES)}, or a folder of images."
            f"{suggest(suffix, FILE_SUFFIXES)}"
        )
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes). Download or generate it again.")
    if suffix in CONTAINER_SUFFIXES:
        return containers.read(path, max_frames, max_side)
    if suffix in animations.SUFFIXES:
        return animations.read(path, max_frames, max_side)
    return arrays.read(path, max_frames, max_side)


def write_video(
    video: Video,
    path: str | os.PathLike[str],
    *,
    lossless: bool = False,
    crf: int = 18,
    fps: float | None = None,
) -> Path:
    """Write a clip; the suffix decides the format, no suffix means a folder of PNG images.

    The file appears under its name only when it is complete. Sizes are kept exactly: odd ones are stored with full
    chroma resolution (4:4:4), since 4:2:0 has no odd sizes.

    Args:
        video: Frames, stored with 8 bits per channel except in arrays.
        path: Target; an existing file is replaced, missing folders are created.
        lossless: Keep the 8-bit values bit for bit (RGB coding); an error for GIF.
        crf: Quality of lossy codecs, 0 (best) to 51; 18 is visually lossless.
        fps: Frame rate to store instead of the video's own.

    Returns:
        `path`.

    Raises:
        OutputError: The target cannot be written, or the suffix or an option does not fit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    rate = video.fps if fps is None else fps
    if not 0 < rate < math.inf:
        raise OutputError(f"fps must be positive and finite, received {fps!r}.")
    if not 0 <= crf <= 51:
        raise OutputError(f"crf must lie in [0, 51], received {crf!r}.")
    if suffix and suffix not in WRITABLE_SUFFIXES:
        raise OutputError(
            f"{path}: cannot write {path.suffix!r}. Allowed: {list(WRITABLE_SUFFIXES)}, or no suffix for a folder of "
            f"images.{suggest(suffix, WRITABLE_SUFFIXES)}"
        )
    if lossless and suffix == ".gif":
        raise OutputError(f"{path}: GIF holds 256 colours a frame and cannot be lossless. Write .mp4 or .safetensors.")
    if not suffix:
        images.write_folder(video, path)
    elif suffix in arrays.SUFFIXES:
        arrays.write(video, path, rate)
    elif suffix == ".gif":
        encoding.write_gif(video, path, rate)
    else:
        encoding.write(video, path, rate, crf=crf, lossless=lossless)
    return path
