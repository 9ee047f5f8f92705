r"""Prompt files: UTF-8 text, one prompt per line. Every command that takes one reads it here.

Blank lines, and lines whose first character other than a blank is `#`, are no prompts. A line ends at `\n`, `\r\n` or
`\r` and nowhere else: text from web pages and word processors holds other separators (U+2028, U+0085, vertical tab,
form feed) within a prompt.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from worldr1_core.errors import UserError

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The content of a prompt file.

    Attributes:
        prompts: Prompts in order, without blanks around them.
        num_comments: Lines that start with `#`.
        num_blank: Blank lines between others; those at the end of the file do not count.
    """

    prompts: list[str]
    num_comments: int
    num_blank: int

    @property
    def count(self) -> str:
        """The number of prompts in words, with what was left out: `2 prompts (1 comment line left out)`."""
        left_out = [
            _plural(number, what)
            for number, what in ((self.num_comments, "comment line"), (self.num_blank, "blank line"))
            if number
        ]
        return _plural(len(self.prompts), "prompt") + (f" ({' and '.join(left_out)} left out)" if left_out else "")


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
    """The prompts of a file; see `read_prompt_file`."""
    return read_prompt_file(path).prompts


def read_prompt_file(path: str | os.PathLike[str]) -> PromptFile:
    """Read a prompt file.

    Args:
        path: UTF-8 text, with or without a byte order mark.

    Raises:
        UserError: The file cannot be read as text, or holds no prompt.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Prompt file {str(path)!r} cannot be read as text: {error}.") from error
    lines = [line.strip() for line in split_lines(text.rstrip())]
    comments = [line for line in lines if line.startswith("#")]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise UserError(
            f"Prompt file {str(path)!r} holds no prompt. Write one prompt per line; lines that start with '#' are "
            "comments."
        )
    return PromptFile(prompts, len(comments), len(lines) - len(comments) - len(prompts))


def split_lines(text: str) -> list[str]:
    r"""The lines of a text, which end at `\n`, `\r\n` or `\r` alone; the end of the last line makes no further one.

    Example:
        >>> split_lines("Camera push in.\u2028A room.\r\nA ball.\n")
        ['Camera push in.\u2028A room.', 'A ball.']
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def _plural(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
