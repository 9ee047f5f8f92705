"""Files of figures and pictures: which formats there are, and writing one whole or not at all."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldr1_core.errors import OutputError, suggest
from worldr1_core.files import atomic_path

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".svg")


def check_figure_suffix(path: Path) -> None:
    """Check that a figure can be written under this name.

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
    _write(path, buffer.getvalue())


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, or as SVG that holds the PNG.

    Args:
        picture: The picture.
        path: Its file, with a suffix of `SUFFIXES`.

    Raises:
        OutputError: The suffix is unknown, or the place cannot be written to.
    """
    check_figure_suffix(path)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    content = buffer.getvalue()
    if path.suffix.lower() == ".svg":
        size = f'width="{picture.width}" height="{picture.height}"'
        uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        content = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><image {size} href="{uri}"/></svg>\n'.encode()
    _write(path, content)


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error}.") from error
