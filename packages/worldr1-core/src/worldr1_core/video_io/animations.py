"""Animated WebP and PNG files as clips; a still picture is a frame of an image folder instead."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from worldr1_core.errors import VideoError
from worldr1_core.video import Video
from worldr1_core.video_io.frame_buffer import FrameBuffer
from worldr1_core.video_io.pixels import as_frame

SUFFIXES = (".webp", ".png", ".apng")
_DEFAULT_FPS = 16.0
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATION = 0x02


def is_animated(path: Path) -> bool:
    """Return True if a file is an animated WebP or PNG, by its header; False if it cannot be read."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(21)
            if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
                return len(head) > 20 and bool(head[20] & _WEBP_ANIMATION)
            if head[:8] != _PNG_SIGNATURE:
                return False
            file.seek(8)
            while len(chunk := file.read(8)) == 8:  # acTL must precede the picture data (PNG, section 11.3.6)
                size, name = struct.unpack(">I4s", chunk)
                if name in (b"acTL", b"IDAT"):
                    return name == b"acTL"
                file.seek(size + 4, 1)
    except OSError:
        return False
    return False


def read(path: Path, max_frames: int | None, max_side: int | None) -> Video:
    """Read an animation; the frame rate is that of its mean delay.

    Raises:
        VideoError: It is a still picture, truncated or damaged, or does not fit into memory.
    """
    if path.suffix.lower() != ".apng" and path.stat().st_size > 0 and not is_animated(path):
        raise VideoError(
            f"{path}: is a single picture. Allowed: videos, animated pictures, and folders of pictures. "
            "Give the folder that holds the frames."
        )
    try:
        _check_length(path)
        with Image.open(path) as image:
            return _read_frames(path, image, max_frames, max_side)
    except UnidentifiedImageError as error:
        raise VideoError(f"{path}: is damaged or no animation that can be decoded.") from error
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path}: is truncated or damaged: {error}. Download or generate the file again.") from error


def _read_frames(path: Path, image: Image.Image, max_frames: int | None, max_side: int | None) -> Video:
    total = int(getattr(image, "n_frames", 1))
    # An animated PNG may hold a picture for viewers without animation, which is no part of it.
    first = 1 if total > 1 and image.info.get("default_image") else 0
    count = min(total - first, max_frames or total)
    buffer = FrameBuffer(path, count, max_side)
    buffer.check_fits((image.height, image.width))
    seconds = 0.0
    for index in range(first, first + count):
        image.seek(index)
        image.load()
        seconds += float(image.info.get("duration") or 0) / 1000
        buffer.append(as_frame(np.array(image.convert("RGB"))))
    return Video(
        buffer.frames(), count / seconds if seconds else _DEFAULT_FPS, source=str(path), full_size=buffer.full_size
    )


def _check_length(path: Path) -> None:
    """Compare the size of a WebP with the one that its header states; PNG is checked chunk by chunk when it is read."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little") + 8
        if stated > path.stat().st_size:
            raise VideoError(
                f"{path}: is truncated: the file states {stated} bytes and has {path.stat().st_size}. "
                "Download or generate the file again."
            )
