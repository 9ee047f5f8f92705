"""Prompt files: UTF-8 text, one prompt a line."""

from __future__ import annotations

import os
from pathlib import Path

from worldr1_core.errors import UserError


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
    """The prompts of a file, stripped; blank lines and lines that start with `#` are left out.

    Raises:
        UserError: The file cannot be read as text, or holds no prompt.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Prompt file {str(path)!r} cannot be read as text: {error}.") from error
    prompts = [line.strip() for line in text.splitlines()]
    prompts = [prompt for prompt in prompts if prompt and not prompt.startswith("#")]
    if not prompts:
        raise UserError(f"Prompt file {str(path)!r} holds no prompt. Write one prompt a line.")
    return prompts
