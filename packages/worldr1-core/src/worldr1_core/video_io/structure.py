"""Detection of truncated files, from the sizes that the blocks of a container state.

A header promises frames or seconds in some files only: live recordings state neither, and an AVI that lost its index
states too little. The nesting of blocks shows the cut in all of them, except a cut exactly between two blocks of a
recording that states no total size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _CLUSTER, _CRC32 = 0x18538067, 0x1F43B675, 0xBF
_LIVE_PARENTS = (_SEGMENT, _CLUSTER)  # the elements that a live recording leaves without a size
_PICTURE_ELEMENTS = (_CLUSTER, 0xE7, 0xA7, 0xAB, 0xA0, 0xA3)  # clusters, their times and positions, their blocks
_UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)  # recorders write them until the file is closed


def find_fault(path: Path, format_name: str) -> str | None:
    """Describe the damage to the blocks of a container (a cut, or a wrong checksum), or return `None`.

    Args:
        path: A video file.
        format_name: FFmpeg's name of its container, e.g. `"matroska,webm"`.
    """
    check = _CHECKS.get(format_name)
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def gif_length(path: Path) -> tuple[int, int] | None:
    """Bytes up to and including a GIF's trailer, and the number of its images; `None` if it ends before its trailer.

    Raises:
        ValueError: The file holds something that is no block of a GIF (GIF89a, sections 17 to 27).
    """
    data = path.read_bytes()
    try:
        return _walk_gif(data)
    except IndexError:
        return None


def _walk_gif(data: bytes) -> tuple[int, int]:
    position, images = 13 + _colour_table(data[10]), 0
    while data[position] != 0x3B:
        if data[position] == 0x2C:
            position, images = position + 11 + _colour_table(data[position + 9]), images + 1
        elif data[position] == 0x21:
            position += 2
        elif data[position] == 0:  # some encoders pad blocks with zeros
            position += 1
            continue
        else:
            raise ValueError(f"byte {position} starts no block of a GIF")
        while data[position]:
            position += data[position] + 1
        position += 1
    return position + 1, images


def _colour_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _riff_fault(file: BinaryIO, length: int) -> str | None:
    """AVI: one RIFF chunk, or several of which the later ones continue the first (OpenDML)."""
    position = 0
    while position + 8 <= length:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or size in _UNKNOWN_RIFF_SIZES:
            return None
        if position + 8 + size > length:
            return f"the file states {position + 8 + size} bytes and has {length}"
        position += 8 + size + size % 2
    return None


def _fragment_fault(file: BinaryIO, length: int) -> str | None:
    """MP4 in fragments, whose header counts no frames: each box must end within the file."""
    fragmented, position = False, 0
    while position + 8 <= length:
        file.seek(position)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8:  # 0: the box extends to the end of the file
            return None
        fragmented |= name == b"moof"
        if fragmented and position + size > length:
            return f"box {name.decode('latin-1')!r} at byte {position} extends beyond the end of the file"
        position += size
    return None


def _matroska_fault(file: BinaryIO, length: int) -> str | None:
    """Matroska and WebM: clusters, or in live recordings their blocks, must end within the file, checksums must hold.

    What follows the clusters (index, tags) may be cut without loss of a picture.
    """
    for identifier, start, size in _elements(file, length):
        if identifier not in _PICTURE_ELEMENTS or size is None:
            continue
        if start + size > length:
            return f"the block at byte {start} extends beyond the end of the file"
        if identifier == _CLUSTER and not _checksum_holds(file, start, size):
            return f"the checksum of the cluster at byte {start} is wrong"
    return None


def _elements(file: BinaryIO, length: int) -> Iterator[tuple[int, int, int | None]]:
    """Identifier, first content byte and size of the elements of a segment; `None` for a size that is left open."""
    position = 0
    while position < length:
        file.seek(position)
        head = file.read(12)
        identifier_length = 9 - head[0].bit_length()
        size_at = identifier_length
        if identifier_length > 4 or len(head) <= size_at or not head[size_at]:
            return
        size_length = 9 - head[size_at].bit_length()
        if len(head) < size_at + size_length:
            return
        identifier = int.from_bytes(head[:identifier_length], "big")
        mask = (1 << 7 * size_length) - 1
        size = int.from_bytes(head[size_at : size_at + size_length], "big") & mask
        start = position + size_at + size_length
        is_open = size == mask
        yield identifier, start, None if is_open else size
        descend = identifier == _SEGMENT or is_open
        if is_open and identifier not in _LIVE_PARENTS:
            return
        position = start if descend else start + size


def _checksum_holds(file: BinaryIO, start: int, size: int) -> bool:
    """A cluster may begin with the CRC-32 of the rest of it, in little-endian order (RFC 8794, section 11.3.1)."""
    file.seek(start)
    content = file.read(size)
    if content[:2] != bytes((_CRC32, 0x84)):
        return True
    return zlib.crc32(content[6:]) == int.from_bytes(content[2:6], "little")


_CHECKS: dict[str, Callable[[BinaryIO, int], str | None]] = {
    "avi": _riff_fault,
    "matroska,webm": _matroska_fault,
    "mov,mp4,m4a,3gp,3g2,mj2": _fragment_fault,
}
