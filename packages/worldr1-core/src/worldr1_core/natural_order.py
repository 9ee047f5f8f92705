"""The order in which people number files: `frame_2` before `frame_10`."""

from __future__ import annotations

import re


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key of a file name or path in which digits count as numbers and case only breaks ties.

    Example:
        >>> sorted(["b10.png", "b9.png", "A1.png"], key=natural_key)
        ['A1.png', 'b9.png', 'b10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts if part], name
