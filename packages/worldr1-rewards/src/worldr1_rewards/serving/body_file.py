"""The body of a request in an open file without a name: workers map it, and it vanishes with its last user."""

from __future__ import annotations

import mmap
import os
import tempfile
import zlib
from pathlib import Path

_MEMORY = Path("/dev/shm")


class BodyFile:
    """Receives a body of known size.

    Args:
        num_bytes: Size of the body.

    Attributes:
        num_bytes: Size of the body.
        num_received: Bytes received so far.
        checksum: CRC-32 of the bytes received so far.
    """

    def __init__(self, num_bytes: int) -> None:
        folder = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `close`
        self.num_bytes, self.num_received, self.checksum = num_bytes, 0, 0

    @property
    def descriptor(self) -> int:
        """Descriptor of the open file."""
        return self._file.fileno()

    def append(self, part: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: There is no room for them.
        """
        view = memoryview(part)
        while view:
            view = view[self._file.write(view) :]
        self.num_received += len(part)
        self.checksum = zlib.crc32(part, self.checksum)

    def map(self) -> memoryview:
        """Map the file into memory, to be read."""
        return memoryview(mmap.mmap(self.descriptor, self.num_received, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Close the file; workers that map it keep it."""
        self._file.close()
