"""Small video files of many kinds, encoded with FFmpeg directly: readers are checked against files we did not write."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

UNIT = 1 << 16
IDENTITY = struct.pack(">9i", UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30)


def pictures(count: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Moving waves and a bright corner, so that no turn or mirror maps a picture to itself."""
    y, x = np.mgrid[:height, :width]
    images = []
    for index in range(count):
        waves = 110 + 90 * np.sin((x + 3 * index) / 7) * np.cos((y - 2 * index) / 5)
        image = np.stack([waves, waves[:, ::-1], waves * 0.5], -1).clip(0, 255).astype(np.uint8)
        image[: height // 4, : width // 3] = (250, 40, 20)
        images.append(image)
    return images


def encode_images(
    path: Path,
    images: Sequence[np.ndarray],
    codec: str = "libx264rgb",
    pixel_format: str = "rgb24",
    *,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Encode; `times` are presentation times in 1/16 s, `aspect` is the sample aspect ratio."""
    default = {"crf": "0"} if codec == "libx264rgb" else {}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=16, options=default if options is None else options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixel_format
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for time, image in zip(times or range(len(images)), images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Write the linear part of a display matrix into the track header of an MP4."""
    data = path.read_bytes()
    matrix = struct.pack(">9i", *(round(value * UNIT) for value in (a, b, 0, c, d, 0)), 0, 0, 1 << 30)
    start = data.index(IDENTITY, data.index(b"tkhd"))
    path.write_bytes(data[:start] + matrix + data[start + len(matrix) :])
    return path


def packets(path: Path) -> list[tuple[int, bytes]]:
    """Place in the file and content of the packets of the first video stream."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        contents = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return [(data.index(content), content) for content in contents]


def overwrite(path: Path, start: int, content: bytes) -> Path:
    """Replace bytes in place."""
    data = bytearray(path.read_bytes())
    data[start : start + len(content)] = content
    path.write_bytes(data)
    return path


def cut_at(path: Path, length: float) -> Path:
    """Keep the first bytes: a number of them, or a fraction below 1."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * length) if length < 1 else int(length)])
    return path
