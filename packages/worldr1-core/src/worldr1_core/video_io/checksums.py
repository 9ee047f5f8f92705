"""Checksums inside packets that FFmpeg's decoders compare but conceal.

FFV1 protects every slice with a CRC; the decoder replaces a slice that fails by the one of the frame before, reports it
in its log only, and hands out the picture as sound.
"""

from __future__ import annotations

import zlib

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
_TRAILER = 8  # size of the slice (3 bytes), error status (1), checksum (4): RFC 9043, section 4.7
_START_VALUES = (0, 0x7A8C4079)


class Ffv1Check:
    """Verifies the packets of one FFV1 stream.

    Only the codec's range-coded header says whether slices carry checksums. One packet whose slices all hold proves
    that they do; a stream without such a packet is not checked.
    """

    def __init__(self) -> None:
        self._count = 0
        self._protected = False
        self._first_failure: int | None = None

    def add(self, packet: bytes) -> None:
        """Verify the next packet."""
        sound = _slices_hold(packet)
        self._protected |= sound
        if not sound and self._first_failure is None:
            self._first_failure = self._count
        self._count += 1

    @property
    def damaged(self) -> int | None:
        """The first packet with a wrong checksum; `None` if all hold, or the stream has none."""
        return self._first_failure if self._protected else None


def _slices_hold(packet: bytes) -> bool:
    end = len(packet)
    while end > 0:
        start = end - _TRAILER - int.from_bytes(packet[max(end - _TRAILER, 0) : max(end - 5, 0)], "big")
        if start < 0 or start > end - _TRAILER or not _holds(packet[start:end]):
            return False
        end = start
    return True


def _holds(data: bytes) -> bool:
    """CRC with the polynomial 0x04C11DB7, highest bit first: zlib's on bytes with their bits reversed.

    zlib inverts the register before and after; a message followed by its own checksum leaves the start value.
    """
    mirrored = data.translate(_REVERSED)
    for value in _START_VALUES:
        register = int(f"{value:032b}"[::-1], 2)
        if zlib.crc32(mirrored, register ^ 0xFFFFFFFF) ^ 0xFFFFFFFF == register:
            return True
    return False
