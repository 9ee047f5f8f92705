"""Import of pycolmap without its side effects on the process."""

from __future__ import annotations

import signal
import threading
from types import ModuleType


def import_pycolmap() -> ModuleType:
    """pycolmap, with the process's own answer to SIGTERM kept: the package would print a stack trace on it."""
    before = signal.getsignal(signal.SIGTERM)
    # Loads the system's zlib first: where pycolmap's own comes first, Pillow later crashes in it.
    import zlib  # noqa: F401

    import pycolmap

    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)
    return pycolmap
