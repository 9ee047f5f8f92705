"""Prompt of a video file, from `NAME.txt` or the key `prompt` of `NAME.json` in the same folder."""

from __future__ import annotations

import json
from pathlib import Path


def prompt_beside(video: Path) -> str:
    """Read the prompt of a video file or a folder of images; an empty string if there is none.

    Args:
        video: Video file or folder. `NAME.txt` beside it contains the prompt as plain text; `worldr1 generate` writes
            `NAME.json`.
    """
    stem = video.with_suffix("") if video.is_file() else video
    try:
        return " ".join(Path(f"{stem}.txt").read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError):
        pass
    try:
        return str(json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))["prompt"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
