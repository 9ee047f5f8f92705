"""Versions that a result depends on, recorded with every score, video and checkpoint."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

from worldr1_core.plugins import installed


@functools.cache
def versions(*libraries: str) -> dict[str, str]:
    """Versions of Python, torch, further libraries, and every distribution that registers a plugin.

    Args:
        *libraries: Installed distributions, e.g. `"diffusers"`.
    """
    owners = {owner.distribution: owner.version for owner in installed().plugins}
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", *libraries)},
        **owners,
    }
