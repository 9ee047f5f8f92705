"""Results of single videos, and the file that keeps them while an evaluation runs, so that it can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldr1_core.errors import OutputError
from worldr1_core.files import atomic_write_text

RECORDS = "videos.jsonl"
"""File in the folder of an evaluation with one JSON object per finished video."""

_LINE_SEPARATORS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\u0085\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """Results of one video.

    Attributes:
        method: Name of the set of videos.
        video: Name of the video in its set.
        prompt: Its prompt.
        prompt_index: Index of the prompt.
        seed: Number of the video among those of its prompt.
        move: Camera moves of the prompt in words.
        scene: Kind of scene, or `None`.
        values: Column -> value, for the columns that have one.
        failures: Column -> reason why it could not be measured. Such a column may have a value, the one that a failure
            counts as.
        inapplicable: Column -> reason why it makes no sense for the clip.
        error: Why the video could not be read or measured at all, or `None`.
        num_frames: Frames; 0 if the video could not be read.
        size: (H, W); (0, 0) if the video could not be read.
        seconds: Time of reading and measuring.
        fingerprint: Digest of video, command and settings.
    """

    method: str
    video: str
    prompt: str
    prompt_index: int
    seed: int
    move: str
    scene: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    num_frames: int = 0
    size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    fingerprint: str = ""

    @property
    def pair(self) -> tuple[int, int]:
        """Prompt and seed, which are equal for the videos of several methods that are compared."""
        return self.prompt_index, self.seed

    def line(self) -> str:
        """One line of strict JSON."""
        text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False).translate(_LINE_SEPARATORS)
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class RecordFile:
    """The records of an evaluation on disk: each is appended when its video is finished.

    Args:
        path: The file, or `None` to keep nothing.

    Attributes:
        finished: Fingerprint -> record of an earlier run.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.finished = {} if path is None else _read(path)

    def start(self, kept: Iterable[VideoRecord]) -> None:
        """Begin a run with the records that are kept from an earlier one.

        Raises:
            OutputError: The file cannot be written.
        """
        if self.path is not None:
            atomic_write_text(self.path, "".join(f"{record.line()}\n" for record in kept))

    def append(self, record: VideoRecord) -> None:
        """Add a finished video; it is on disk when this returns.

        Raises:
            OutputError: The file cannot be written.
        """
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(f"{record.line()}\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"Cannot write {str(self.path)!r}: {error}. Free some space and run again.") from error


def read_records(path: Path) -> list[VideoRecord]:
    """Read the complete records of a file; a line that a killed run left incomplete is skipped."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return [record for line in lines if (record := _parse(line)) is not None]


def _read(path: Path) -> dict[str, VideoRecord]:
    """Records without an error by fingerprint: a video that failed is tried again."""
    return {record.fingerprint: record for record in read_records(path) if record.error is None}


def _parse(line: str) -> VideoRecord | None:
    try:
        content: dict[str, Any] = json.loads(line)
        return VideoRecord(**{**content, "size": tuple(content["size"])})
    except (ValueError, TypeError, KeyError):
        return None
