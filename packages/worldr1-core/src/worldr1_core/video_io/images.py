"""A clip as a folder of images, one per frame, in natural order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from worldr1_core.errors import OutputError, VideoError
from worldr1_core.files import atomic_folder
from worldr1_core.video import Video
from worldr1_core.video_io.animations import is_animated
from worldr1_core.video_io.find import IMAGE_SUFFIXES, list_files
from worldr1_core.video_io.frame_buffer import FrameBuffer
from worldr1_core.video_io.pixels import as_frame, byte_images

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def read_folder(folder: Path, max_frames: int | None, max_side: int | None) -> Video:
    """Read the images of a folder as frames; the frame rate is the default of `Video`.

    Raises:
        VideoError: No images, an image that cannot be decoded or is an animation, two sizes (the message names both
            files), or more than fits into memory.
    """
    paths = list_files(folder, IMAGE_SUFFIXES)
    if not paths:
        raise VideoError(f"{folder}: the folder holds no images. Allowed: {list(IMAGE_SUFFIXES)}.")
    paths = paths[:max_frames]
    buffer = FrameBuffer(folder, len(paths), max_side)
    first: NDArray[np.uint8] | None = None
    for path in paths:
        image = _read_image(path)
        first = image if first is None else first
        if image.shape != first.shape:
            raise VideoError(
                f"{folder}: images differ in size: {paths[0].name!r} is {_size(first)}, {path.name!r} is "
                f"{_size(image)} (height x width). Resize or remove the odd one."
            )
        buffer.append(as_frame(image))
    return Video(buffer.frames(), source=str(folder), full_size=buffer.full_size)


def write_folder(video: Video, folder: Path) -> None:
    """Write `frame_00000.png`, ...

    Raises:
        OutputError: The folder is not empty, or cannot be written to.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; a folder of images is meant. Add a suffix or choose another name.")
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder}: the folder is not empty. Remove it or choose another name.")
    with atomic_folder(folder) as temporary:
        for index, image in enumerate(byte_images(video)):
            Image.fromarray(image).save(temporary / f"frame_{index:05d}.png", compress_level=1)


def _read_image(path: Path) -> NDArray[np.uint8]:
    if is_animated(path):
        raise VideoError(f"{path}: is an animation, and so a clip of its own, not a frame. Read the file by its name.")
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in _EIGHT_BIT_MODES:
                raise VideoError(
                    f"{path}: images must have 8 bits a channel, received mode {image.mode!r}. Convert it."
                )
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise VideoError(f"{path}: is not an image that can be decoded. Replace or remove it.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path}: the image is damaged: {error}. Replace or remove it.") from error


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"
