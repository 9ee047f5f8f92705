"""Files of matplotlib figures: which kinds there are, and writing one whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from worldr1_core.errors import OutputError, suggest
from worldr1_core.files import atomic_path

SUFFIXES = (".png", ".svg")


def check_figure_suffix(path: Path) -> None:
    """Whether a figure can be written under this name.

    Raises:
        OutputError: The suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"{path}: cannot draw {suffix!r}. Allowed: {list(SUFFIXES)}.{suggest(suffix, SUFFIXES)}")


def save_figure(figure: Any, path: Path) -> None:
    """Write a `matplotlib.figure.Figure` on white.

    Args:
        figure: The figure.
        path: Its file, with a suffix of `SUFFIXES`.

    Raises:
        OutputError: The place cannot be written to.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower()[1:], facecolor="white")
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(buffer.getvalue())
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error}.") from error
