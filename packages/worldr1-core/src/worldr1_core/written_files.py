"""Recognition of the files that World-R1's commands write beside or about videos.

A folder that a command wrote is a natural input of the next one. So `find_videos` leaves out pictures and renders that
belong to a clip, and a reader of a generated video finds its prompt.

| command | files |
|---|---|
| `worldr1 generate --out` | `<stem>.json` (the record), `<stem>.path.png`, `contact-sheet.png` |
| `worldr1 score --out` | a folder per clip with `SCORE_FILES` |
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

CONTACT_SHEET = "contact-sheet.png"
PATH_PLOT_SUFFIX = ".path.png"
SCORES = "scores.json"
SCORE_FILES = (
    SCORES,
    "trajectory.json",
    "trajectory.svg",
    "rerender.mp4",
    "comparison.png",
    "depth.mp4",
    "depth.npz",
)
"""Every file that `worldr1 score --out` may write for a clip; `SCORES` is always among them."""


def read_video_record(video: Path) -> dict[str, Any] | None:
    """The record beside a generated video: the JSON object in `<stem>.json` that holds its `prompt`.

    Args:
        video: Video file or image folder.

    Returns:
        The object, or `None` if there is none, it has no prompt, or its `video` names another file.

    Example:
        >>> read_video_record(Path("no-such-video.mp4")) is None
        True
    """
    video = Path(os.path.abspath(video))  # `.` has no name, and a link keeps its own
    record = _read_object(video.parent / f"{video.name if video.is_dir() else video.stem}.json")
    if record is None or not isinstance(record.get("prompt"), str):
        return None
    return record if record.get("video", video.name) == video.name else None


def written_files(folder: Path, names: Collection[str]) -> set[str]:
    """Those of a folder's files that World-R1 wrote about a clip, and that are no clips themselves.

    Args:
        folder: The folder.
        names: Names of its entries.
    """
    found = {name for name in names if name.endswith(PATH_PLOT_SUFFIX) and _is_generated(folder, name)}
    if CONTACT_SHEET in names and (found or any(_is_record(folder / name) for name in names)):
        found.add(CONTACT_SHEET)
    if SCORES in names and _holds(folder / SCORES, ("video", "scores", "total")):
        found |= set(SCORE_FILES) & set(names)
    return found


def _is_generated(folder: Path, plot: str) -> bool:
    return _is_record(folder / f"{plot.removesuffix(PATH_PLOT_SUFFIX)}.json")


def _is_record(path: Path) -> bool:
    return path.suffix == ".json" and _holds(path, ("video", "prompt", "seed"))


def _holds(path: Path, keys: tuple[str, ...]) -> bool:
    content = _read_object(path)
    return content is not None and all(key in content for key in keys)


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # a file of another kind, which is nobody's mistake
    return content if isinstance(content, dict) else None
