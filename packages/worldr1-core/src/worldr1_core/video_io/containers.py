"""Container formats (mp4, mov, mkv, webm, avi, gif) through PyAV.

Decoding is strict: a file that holds fewer frames than its header promises, or damaged ones, is an error. FFmpeg would
conceal both, and a score of a half-decoded clip is a wrong score.

Colours follow the file's own tags (matrix, range). Where a file names no matrix, BT.601 is assumed at every size, as
FFmpeg does and as the usual export functions of generation libraries encode. Files written here are tagged BT.709.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray
from PIL import Image

from worldr1_core.errors import OutputError, VideoError
from worldr1_core.files import atomic_path
from worldr1_core.video import Video
from worldr1_core.video_io.pixels import byte_images, to_float

_BT709 = 1  # the code of ITU-R BT.709 for matrix, primaries and transfer alike (ITU-T H.273)
_UNSPECIFIED = 2
_LIMITED_RANGE = 1
_DEFAULT_FPS = 16.0
_SCALER = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


def read(path: Path, max_frames: int | None) -> Video:
    """Decode a file.

    Raises:
        VideoError: It is no video, holds no video stream, or is truncated or damaged.
    """
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(path, container)
            images = list(_decode(path, container, stream, max_frames))
            fps = _frame_rate(stream)
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: cannot be decoded as video: {error.strerror}. The file is truncated, damaged or no video."
        ) from error
    if not images:
        raise VideoError(f"{path}: no frame can be decoded. The file is truncated, damaged or no video.")
    return Video(to_float(images), fps, source=str(path))


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


def _video_stream(path: Path, container: Any) -> Any:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise VideoError(f"{path}: holds no video stream, received {kinds!r}. Choose a file with pictures.")


def _decode(path: Path, container: Any, stream: Any, max_frames: int | None) -> Iterator[NDArray[np.uint8]]:
    stream.thread_type = "AUTO"
    times: list[float | None] = []
    size: tuple[int, ...] = ()
    for index, frame in enumerate(itertools.islice(container.decode(stream), max_frames)):
        if frame.is_corrupt:
            raise VideoError(f"{path}: frame {index} is damaged. Download or generate the file again.")
        image = _to_rgb(frame)
        if size and image.shape != size:
            raise VideoError(f"{path}: frame {index} changes size from {size[:2]!r} to {image.shape[:2]!r} (H, W).")
        size = image.shape
        times.append(frame.time)
        yield image
    if max_frames is None or len(times) < max_frames:
        _check_complete(path, container, stream, times)


def _to_rgb(frame: Any) -> NDArray[np.uint8]:
    matrix = frame.colorspace if frame.colorspace not in (0, _UNSPECIFIED) else Colorspace.ITU601
    rgb = frame.reformat(
        format="rgb24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG, interpolation=_SCALER
    ).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))


def _check_complete(path: Path, container: Any, stream: Any, times: list[float | None]) -> None:
    """Compare what was decoded with what the header promises, in number and in duration.

    The number alone would reject files whose edit list hides frames; the duration alone would reject recordings whose
    sound outlasts the picture. Where both are known, both must fall short.
    """
    if container.format.name == "gif":
        _check_gif_trailer(path)
    promised = stream.frames
    if promised and len(times) >= promised:
        return
    duration = _promised_duration(container, stream)
    known = [time for time in times if time is not None]
    if duration is None or not known:
        short = bool(promised)
    else:
        gap = float(np.diff(known).max()) if len(known) > 1 else 1 / _frame_rate(stream)
        short = known[-1] - known[0] + 1.5 * gap < duration
    if short:
        expected = f"{promised} frames" if promised else f"{duration:.3f} s"
        raise VideoError(
            f"{path}: is truncated: the header promises {expected}, {len(times)} frames can be decoded. "
            "Download or generate the file again."
        )


def _check_gif_trailer(path: Path) -> None:
    """A GIF promises nothing in its header, but ends with an empty block and a trailer byte (GIF89a, section 27)."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 64, 0))
        end = file.read()
    if not end.rstrip(b"\x00\r\n ").endswith(b"\x00;"):
        raise VideoError(f"{path}: is truncated: the GIF has no end mark. Download or generate the file again.")


def _promised_duration(container: Any, stream: Any) -> float | None:
    """Seconds of picture that the header promises, or `None` if it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if tag is not None:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def _frame_rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)


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
        interpolation=_SCALER,
    )


def _to_palette(image: NDArray[np.uint8]) -> Any:
    quantised = Image.fromarray(image).quantize(256, method=Image.Quantize.MEDIANCUT)
    colours = np.array(quantised.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255  # opaque: the layout is alpha, red, green, blue
    palette[: len(colours), 1:] = colours
    return av.VideoFrame.from_ndarray((np.array(quantised), palette), format="pal8")
