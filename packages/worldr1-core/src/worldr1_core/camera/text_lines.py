"""Text files of numbers: decoded, with comments set apart and line numbers kept for messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldr1_core.errors import TrajectoryError


@dataclass(frozen=True, slots=True)
class Row:
    """One line that is not empty and no comment.

    Attributes:
        number: Line number, from 1.
        words: Fields, separated by white space, commas or semicolons; a comment at the end is left out.
        text: The whole line.
    """

    number: int
    words: tuple[str, ...]
    text: str

    def floats(self) -> list[float] | None:
        """The fields as numbers, or `None` if one is no number."""
        try:
            return [float(word) for word in self.words]
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class TextFile:
    """Rows of a text file, and its comment lines without the `#`."""

    rows: list[Row]
    comments: list[str]


def read_text_file(path: Path) -> TextFile:
    """Read a text file in UTF-8, with or without a byte order mark, with any line ends.

    Raises:
        TrajectoryError: It cannot be read as text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(f"cannot be read as UTF-8 text: {error}.") from error
    rows, comments = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        content, mark, comment = line.partition("#")
        words = tuple(content.replace(",", " ").replace(";", " ").split())
        if words:
            rows.append(Row(number, words, line.strip()))
        elif mark:
            comments.append(comment.strip())
    return TextFile(rows, comments)
