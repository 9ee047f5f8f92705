"""Choice of a container's video stream, and facts from its packets before anything is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from worldr1_core.errors import VideoError
from worldr1_core.video_io.checksums import Ffv1Check
from worldr1_core.video_io.structure import gif_length

_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True, slots=True)
class Survey:
    """A clip's packets, counted.

    Attributes:
        index: Of the stream in its container.
        num_packets: Packets with content; more than `max_frames` are not counted.
        last_time: Seconds at which the last packet in display order is shown; `None` where packets carry no time.
    """

    index: int
    num_packets: int
    last_time: float | None


def open_container(path: Path) -> Any:
    """Open a file for reading; of a GIF, only what precedes the end of its trailer.

    Raises:
        VideoError: A GIF ends before its trailer, or is damaged.
        av.FFmpegError: The file is no video, or cannot be opened.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GIF8":
            return av.open(str(path), metadata_errors="replace")
    try:
        length = gif_length(path)
    except ValueError as error:
        raise VideoError(f"{path}: the GIF is damaged: {error}. Download or generate the file again.") from error
    if length is None:
        raise VideoError(f"{path}: is truncated: the GIF has no end mark. Download or generate the file again.")
    return av.open(io.BytesIO(path.read_bytes()[: length[0]]))


def survey(path: Path, max_frames: int | None) -> Survey:
    """Choose the stream to decode and count its packets.

    Of several video streams the one with the default flag is the clip, then the largest, then the first; cover pictures
    and thumbnails never are, and neither are streams without packets.

    Raises:
        VideoError: There is no video stream, or a packet is damaged or cut.
        av.FFmpegError: The file cannot be read.
    """
    with open_container(path) as container:
        indices = [stream.index for stream in _candidates(path, container)]
    surveys = (_survey_stream(path, index, max_frames) for index in indices)
    found = next((one for one in surveys if one.num_packets), None)
    if found is None:
        raise VideoError(f"{path}: no frame can be decoded. The file is truncated, damaged or no video.")
    return found


def pixel_aspect(stream: Any) -> Fraction:
    """Width of a stored pixel over its height; 1 where the file names none. The container's value wins."""
    return Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)


def _candidates(path: Path, container: Any) -> list[Any]:
    streams = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        if not kinds:
            raise VideoError(f"{path}: holds no stream at all. The file is truncated, damaged or no video.")
        raise VideoError(f"{path}: holds no video stream, received {kinds!r}. Choose a file with pictures.")
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise VideoError(f"{path}: the codec of its video stream is unknown. The file is damaged, or of another kind.")
    return sorted(streams, key=lambda stream: (not stream.disposition & Disposition.default, -_area(stream)))


def _area(stream: Any) -> int:
    return int(stream.codec_context.width) * int(stream.codec_context.height)


def _survey_stream(path: Path, index: int, max_frames: int | None) -> Survey:
    count, last_time = 0, None
    with open_container(path) as container:
        stream = container.streams[index]
        ffv1 = Ffv1Check() if stream.codec_context.name == "ffv1" else None
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.is_corrupt:
                raise VideoError(
                    f"{path}: is truncated or damaged in packet {count}. Download or generate the file again."
                )
            if ffv1 is not None:
                ffv1.add(bytes(packet))
            count += 1
            if packet.pts is not None and not packet.is_discard:
                time = float(packet.pts * packet.time_base)
                last_time = time if last_time is None else max(time, last_time)
            if count == max_frames:
                break
    if ffv1 is not None and ffv1.damaged is not None:
        raise VideoError(
            f"{path}: frame {ffv1.damaged} is damaged: its checksum is wrong. Download or generate the file again."
        )
    return Survey(index, count, last_time)
