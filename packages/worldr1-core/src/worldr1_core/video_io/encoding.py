"""Writing of container formats (mp4, mov, mkv, webm, gif) through PyAV; lossy video is tagged BT.709."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image

from worldr1_core.errors import OutputError
from worldr1_core.files import atomic_path
from worldr1_core.video import Video
from worldr1_core.video_io.containers import SCALER
from worldr1_core.video_io.pixels import byte_images

_BT709 = 1  # the code of ITU-R BT.709 for matrix, primaries and transfer alike (ITU-T H.273)
_LIMITED_RANGE = 1


def write(video: Video, path: Path, fps: float, *, crf: int, lossless: bool) -> None:
    """Encode H.264 (mp4, mov, mkv) or VP9 (webm).

    Raises:
        OutputError: The file cannot be written.
    """
    codec, pixel_format, options = _encoding(path.suffix.lower(), video.size, crf, lossless)
    frames = (av.VideoFrame.from_ndarray(image, format="rgb24") for image in byte_images(video))
    if not lossless:
        frames = (_to_yuv(frame, pixel_format) for frame in frames)
    _encode(path, frames, video.size, fps, codec, pixel_format, options)


def write_gif(video: Video, path: Path, fps: float) -> None:
    """Encode a GIF with 256 dithered colours of its own a frame; delays are rounded to 1/100 s.

    Raises:
        OutputError: The file cannot be written.
    """
    _encode(path, map(_to_palette, byte_images(video)), video.size, fps, "gif", "pal8", {})


def _encoding(suffix: str, size: tuple[int, int], crf: int, lossless: bool) -> tuple[str, str, dict[str, str]]:
    """Codec, pixel format and options."""
    even = size[0] % 2 == 0 and size[1] % 2 == 0
    subsampled = "yuv420p" if even else "yuv444p"
    if suffix == ".webm":
        speed = {"row-mt": "1", "cpu-used": "3"}
        if lossless:
            return "libvpx-vp9", "gbrp", {"lossless": "1", **speed}
        return "libvpx-vp9", subsampled, {"crf": str(crf), "b": "0", **speed}
    # Macroblock-tree rate control makes other bytes of the same small clip from run to run.
    x264 = {"preset": "medium", "x264-params": "mbtree=0"}
    if lossless:
        return "libx264rgb", "rgb24", {"crf": "0", **x264}
    # H.264 readers take chroma samples to sit at the left of their pixel pair unless told that the scaler centres them.
    return "libx264", subsampled, {"crf": str(crf), **x264, "chroma_sample_location": "center"}


def _encode(
    path: Path,
    frames: Iterable[Any],
    size: tuple[int, int],
    fps: float,
    codec: str,
    pixel_format: str,
    options: dict[str, str],
) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    container_options = {"fflags": "+bitexact"}  # no random identifiers, no version of the library
    if path.suffix.lower() in (".mp4", ".mov"):
        container_options["movflags"] = "+faststart"
    with atomic_path(path) as temporary:
        try:
            with av.open(str(temporary), "w", options=container_options) as container:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = size
                stream.pix_fmt = pixel_format
                if pixel_format.startswith("yuv"):
                    _tag_bt709(stream.codec_context)
                for index, frame in enumerate(frames):
                    frame.pts, frame.time_base = index, 1 / rate
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{path}: cannot be written: {error}. Choose a place you may write to.") from error


def _tag_bt709(context: Any) -> None:
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE


def _to_yuv(frame: Any, pixel_format: str) -> Any:
    return frame.reformat(
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=SCALER,
    )


def _to_palette(image: NDArray[np.uint8]) -> Any:
    quantised = Image.fromarray(image).quantize(256, method=Image.Quantize.MEDIANCUT)
    colours = np.array(quantised.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255  # opaque: the layout is alpha, red, green, blue
    palette[: len(colours), 1:] = colours
    return av.VideoFrame.from_ndarray((np.array(quantised), palette), format="pal8")
