"""The videos of an evaluation before they are measured, and the fingerprints by which finished ones are recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldr1_core.camera.vocabulary import detect_moves
from worldr1_core.clip import Clip
from worldr1_rewards.inputs import ScoreRequest, complete, load_request

NO_MOVE = "none"
"""Group of prompts without camera words."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video to be measured.

    Attributes:
        method: Name of the set of videos, e.g. of the model that generated them.
        name: Name of the video in results: its path relative to the folder.
        prompt_index: Index of the prompt; videos of several methods are compared for equal prompt and seed.
        seed: Number of the video among those of its prompt.
        request: Files, prompt and commanded path; `None` for a clip in memory.
        clip: Clip in memory, or `None`.
        scene: Kind of scene, or `None`.
    """

    method: str
    name: str
    prompt_index: int
    seed: int
    request: ScoreRequest | None = None
    clip: Clip | None = None
    scene: str | None = None

    @property
    def prompt(self) -> str:
        """Prompt of the video."""
        source = self.request if self.request is not None else self.clip
        return "" if source is None else source.prompt

    @property
    def move(self) -> str:
        """Camera moves of the prompt in words, e.g. `push in then pan left`."""
        return " then ".join(move.phrase for move in detect_moves(self.prompt)) or NO_MOVE

    def load(self) -> Clip:
        """Read the clip.

        Raises:
            UserError: See `worldr1_rewards.inputs.load_request`.
        """
        if self.request is not None:
            return load_request(self.request)
        assert self.clip is not None
        return self.clip

    def fingerprint(self, settings: str) -> str:
        """Digest of everything that the results of this video depend on: its bytes, command and settings.

        Args:
            settings: Text that describes the metrics and their options.
        """
        digest = hashlib.sha256(settings.encode())
        digest.update(json.dumps([self.method, self.name, self.prompt_index, self.seed, self.scene]).encode())
        digest.update(self.prompt.encode("utf-8", "surrogatepass"))
        if self.request is None:
            assert self.clip is not None
            digest.update(self.clip.video.frames.contiguous().numpy().tobytes())
            digest.update(repr(None if self.clip.target is None else self.clip.target.c2w.tolist()).encode())
            return digest.hexdigest()
        request = self.request
        for value in (request.video, request.trajectory, request.intrinsics):
            _update(digest, value)
        digest.update(repr(None if request.commanded is None else request.commanded.c2w.tolist()).encode())
        return digest.hexdigest()


def video_request(path: Path, prompt: str, trajectory: Path | None, intrinsics: Path | None) -> ScoreRequest:
    """Return the request for a video; the record beside it commands its path unless another prompt or path is given.

    Args:
        path: Video.
        prompt: Its prompt; an empty one is taken from the record that `worldr1 generate` wrote beside the video, or
            from a text file of the same name.
        trajectory: File of the commanded path, or `None`.
        intrinsics: File of the known intrinsics, or `None`.
    """
    recorded = complete(ScoreRequest(path, trajectory=trajectory, intrinsics=intrinsics), None, None, None)
    prompt = prompt or recorded.prompt or _text_beside(path)
    return recorded if recorded.prompt == prompt else ScoreRequest(path, prompt, trajectory, intrinsics)


def _text_beside(path: Path) -> str:
    stem = path.with_suffix("") if path.is_file() else path
    try:
        return " ".join(Path(f"{stem}.txt").read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError):
        return ""


def _update(digest: Any, value: object) -> None:
    """Add the bytes of a file or of the files of a folder; of anything else its text."""
    path = Path(str(value).partition("#")[0]) if isinstance(value, str | Path) else None
    if path is None or not path.exists():
        digest.update(repr(None if value is None else str(value)).encode("utf-8", "surrogatepass"))
        return
    digest.update(str(value).partition("#")[2].encode())
    for file in _files(path):
        digest.update(file.name.encode("utf-8", "surrogatepass"))
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)


def _files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
