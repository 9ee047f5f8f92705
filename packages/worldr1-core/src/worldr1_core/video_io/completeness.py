"""Check that the decoded frames are as many as a file promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldr1_core.errors import VideoError
from worldr1_core.video_io.streams import Survey
from worldr1_core.video_io.structure import find_fault, gif_length

_DEFAULT_FPS = 16.0
# Codecs in which every packet is one picture; others have packets that only later frames refer to.
_ONE_FRAME_PER_PACKET = ("ffv1", "png", "apng", "gif")


def check_complete(path: Path, container: Any, stream: Any, packets: Survey, times: list[float | None]) -> None:
    """Compare the frames with the packets, with the blocks of the file, and with number and duration in its header.

    Raises:
        VideoError: The file is truncated or damaged.
    """
    _check_packets(path, stream, packets, times)
    if container.format.name == "gif":
        _check_gif(path, len(times))
        return
    if stream.frames and len(times) >= stream.frames:
        return
    fault = find_fault(path, container.format.name)
    if fault is not None:
        raise VideoError(f"{path}: is truncated or damaged: {fault}. Download or generate the file again.")
    _check_promise(path, container, stream, times)


def frame_rate(stream: Any) -> float:
    """Frames per second on average; 16 where the file does not say."""
    return float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)


def _check_packets(path: Path, stream: Any, packets: Survey, times: list[float | None]) -> None:
    """Compare the frames with the packets, because decoders may drop undecodable packets without an error."""
    codec = stream.codec_context
    one_each = codec.codec.intra_only or codec.name in _ONE_FRAME_PER_PACKET
    lost = one_each and len(times) < packets.num_packets
    known = [time for time in times if time is not None]
    if packets.last_time is not None and len(known) == len(times):
        lost |= max(known) + 0.75 * _largest_gap(stream, known) < packets.last_time
    if lost:
        raise VideoError(
            f"{path}: is damaged: {packets.num_packets} packets decode to {len(times)} frames. "
            "Download or generate the file again."
        )


def _check_gif(path: Path, num_frames: int) -> None:
    """Compare the frames with the blocks of a GIF, whose header states no number."""
    length = gif_length(path)
    if length is not None and num_frames < length[1]:
        raise VideoError(
            f"{path}: is damaged: {num_frames} of {length[1]} images can be decoded. "
            "Download or generate the file again."
        )


def _check_promise(path: Path, container: Any, stream: Any, times: list[float | None]) -> None:
    """Compare what was decoded with the number and the duration in the header.

    The number alone would reject files whose edit list hides frames; the duration alone would reject recordings whose
    sound outlasts the picture. Where both are known, both must fall short.
    """
    duration = _promised_duration(container, stream)
    known = [time for time in times if time is not None]
    if duration is None or not known:
        short = bool(stream.frames)
    else:
        # Matroska states the time at which a stream ends, or its length; they differ if it starts later than at 0.
        start = min(known[0], 0.0) if container.format.name == "matroska,webm" else known[0]
        short = known[-1] - start + 1.5 * _largest_gap(stream, known) < duration
    if short:
        expected = f"{stream.frames} frames" if stream.frames else f"{duration:.3f} s"
        raise VideoError(
            f"{path}: is truncated: the header promises {expected}, {len(times)} frames can be decoded. "
            "Download or generate the file again."
        )


def _largest_gap(stream: Any, times: list[float]) -> float:
    return float(np.diff(times).max()) if len(times) > 1 else 1 / frame_rate(stream)


def _promised_duration(container: Any, stream: Any) -> float | None:
    """Seconds of picture that the header promises, or `None` if it does not say."""
    if container.format.name == "avi" and stream.frames:  # FFmpeg's duration of an AVI covers what the file holds
        return float(stream.frames / frame_rate(stream))
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    if tag is not None:
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None
