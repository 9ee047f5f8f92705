"""The prompt of a video file, as it lies beside it: `NAME.txt`, or the key `prompt` of `NAME.json`."""

from __future__ import annotations

import json
from pathlib import Path


def prompt_beside(video: Path) -> str:
    """Read the prompt beside a video file, or beside a folder of images; empty if there is none.

    Args:
        video: The file. `NAME.txt` holds the prompt as plain text; `worldr1 generate` writes `NAME.json`.
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
