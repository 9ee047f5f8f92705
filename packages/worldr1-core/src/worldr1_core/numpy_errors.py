"""Errors that NumPy raises for damaged files; it documents only some of them."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib

DAMAGED_NUMPY_FILE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    EOFError,
    KeyError,  # a name in the directory of an archive that its entry contradicts
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,  # a header is read as Python
    SyntaxError,
    RuntimeError,  # an entry that is encrypted, compressed by another method, or nested too deeply
    OverflowError,
    MemoryError,  # an array that is declared larger than memory
)
"""Errors of `numpy.load`, and of access to the arrays of an archive."""
