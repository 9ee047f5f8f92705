"""Reading of container formats (mp4, mov, mkv, webm, avi, gif) through PyAV.

Decoding is strict: a file that holds fewer frames than its header promises, or damaged ones, is an error. FFmpeg would
conceal both, and a score of a half-decoded clip is a wrong score.

Frames are as players show them: turned and mirrored by the display matrix, with square pixels. Colours follow the
file's own tags (matrix, range). Where a file names no matrix, BT.601 is assumed at every size, as FFmpeg does and as
the usual export functions of generation libraries encode.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from worldr1_core.errors import VideoError
from worldr1_core.video import Video
from worldr1_core.video_io.completeness import check_complete, frame_rate
from worldr1_core.video_io.frame_buffer import FrameBuffer
from worldr1_core.video_io.orientation import frame_orientation, oriented
from worldr1_core.video_io.pixels import as_frame
from worldr1_core.video_io.streams import open_container, pixel_aspect, survey

SCALER = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
_UNSPECIFIED = 2
_NO_RESOURCES = (errno.ENOMEM, errno.EAGAIN)  # no memory, and no memory for another thread
# Decoders conceal what they cannot decode unless asked to verify checksums and to stop at the first error.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}


def read(path: Path, max_frames: int | None, max_side: int | None) -> Video:
    """Decode a file.

    Raises:
        VideoError: It is no video, holds no video stream, is truncated or damaged, or does not fit into memory.
    """
    try:
        packets = survey(path, max_frames)
        with open_container(path) as container:
            stream = container.streams[packets.index]
            buffer = FrameBuffer(path, packets.num_packets, max_side)
            try:
                times = _decode(path, container, stream, buffer, max_frames)
            finally:
                # Threads of the decoder may still run, and freeing it waits for them with the GIL held: a thread that
                # logs to Python (av.logging.set_level, which old torchvision calls on import) would wait for the GIL
                # for ever. This waits for them without it.
                stream.codec_context.flush_buffers()
            fps = frame_rate(stream)
            if max_frames is None or len(times) < max_frames:
                check_complete(path, container, stream, packets, times)
    except av.FFmpegError as error:
        if error.errno in _NO_RESOURCES:
            raise MemoryError(error.strerror) from error
        raise VideoError(
            f"{path}: cannot be decoded as video: {error.strerror}. The file is truncated, damaged or no video."
        ) from error
    return Video(buffer.frames(), fps, source=str(path), full_size=buffer.full_size)


def _decode(path: Path, container: Any, stream: Any, buffer: FrameBuffer, max_frames: int | None) -> list[float | None]:
    """Fill the buffer; the time of every frame in seconds, `None` where the file has none."""
    context, aspect = stream.codec_context, pixel_aspect(stream)
    buffer.check_fits((context.height, context.width), aspect)
    stream.thread_type = "AUTO"
    context.options = _STRICT
    scaler = VideoReformatter()
    times: list[float | None] = []
    for frame in _frames(container, stream):
        if frame.is_corrupt:
            raise VideoError(f"{path}: frame {len(times)} is damaged. Download or generate the file again.")
        try:
            orientation = frame_orientation(frame)
        except ValueError as error:
            raise VideoError(f"{path}: {error}. Allowed: quarter turns and mirrors. Encode it upright.") from error
        buffer.append(as_frame(oriented(_to_rgb(frame, scaler), orientation)), aspect, turned=orientation[0])
        times.append(frame.time)
        if len(times) == max_frames:
            break
    if not times:
        raise VideoError(f"{path}: no frame can be decoded. The file is truncated, damaged or no video.")
    return times


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames. Packets without content, with which AVI repeats a frame, would end the decoder's work early."""
    for packet in container.demux(stream):
        is_end = packet.dts is None and packet.pts is None
        if packet.size or is_end:
            yield from packet.decode()


def _to_rgb(frame: Any, scaler: VideoReformatter) -> NDArray[np.uint8]:
    matrix = frame.colorspace if frame.colorspace not in (0, _UNSPECIFIED) else Colorspace.ITU601
    rgb = scaler.reformat(
        frame, format="rgb24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG, interpolation=SCALER
    )
    return np.asarray(rgb.to_ndarray(), np.uint8)
