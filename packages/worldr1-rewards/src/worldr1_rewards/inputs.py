"""What `worldr1 score` is asked to score: files, folders and lists become clips with prompt, path and intrinsics."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldr1_core.camera.formats import load_intrinsics, load_trajectory
from worldr1_core.camera.vocabulary import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError, VideoError, suggest
from worldr1_core.video_io import find_videos, read_video

LIST_SUFFIXES = (".csv", ".jsonl")
LIST_KEYS = ("video", "prompt", "trajectory", "intrinsics")


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One clip to score, not yet read.

    Attributes:
        video: File or image folder.
        prompt: Text it was generated from; may be empty.
        trajectory: File with the commanded path; `None` takes the camera words of the prompt.
        intrinsics: File with known intrinsics; `None` takes the default guess.
    """

    video: Path
    prompt: str = ""
    trajectory: Path | None = None
    intrinsics: Path | None = None


def collect_requests(
    paths: Sequence[Path],
    *,
    prompt: str | None = None,
    prompts_file: Path | None = None,
    trajectory: Path | None = None,
    intrinsics: Path | None = None,
) -> list[ScoreRequest]:
    """Expand command-line arguments into requests, without reading any video.

    Args:
        paths: Video files, image folders, folders of videos, and `.csv`/`.jsonl` lists, in any mixture.
        prompt: One prompt for every clip that a list does not give its own.
        prompts_file: Text file with one prompt a line, as many as there are clips.
        trajectory: Commanded path for every clip that a list does not give its own.
        intrinsics: Known intrinsics, likewise.

    Raises:
        UserError: A path does not exist, a list is malformed, or the number of prompts differs from that of clips.
    """
    if prompt is not None and prompts_file is not None:
        raise UserError("Give --prompt or --prompts, not both.")
    requests: list[ScoreRequest] = []
    for path in paths:
        if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
            requests += _read_list(path)
        else:
            requests += [ScoreRequest(video) for video in find_videos(path)]
    prompts = [prompt] * len(requests) if prompts_file is None else _read_prompts(prompts_file, len(requests))
    return [
        ScoreRequest(r.video, r.prompt or p or "", r.trajectory or trajectory, r.intrinsics or intrinsics)
        for r, p in zip(requests, prompts, strict=True)
    ]


def load_clip(request: ScoreRequest) -> Clip:
    """Read a request's files.

    Intrinsics come from `request.intrinsics`; else from the trajectory file, if it states some; else they are unknown.

    Raises:
        VideoError: The video cannot be read, or has fewer than two frames.
        TrajectoryError: The path or the intrinsics are malformed, or the path has another length than the video.
    """
    video = read_video(request.video)
    if video.num_frames < 2:
        raise VideoError(
            f"{request.video}: received {video.num_frames} frame; 3D consistency needs at least 2. Give a video."
        )
    intrinsics = None if request.intrinsics is None else load_intrinsics(request.intrinsics, video.size)
    if request.trajectory is None:
        target = trajectory_from_prompt(request.prompt, video.num_frames, video.size)
    else:
        target = load_trajectory(
            request.trajectory,
            num_frames=video.num_frames,
            image_size=video.size,
            with_camera=intrinsics is None,
        )
        intrinsics = target.intrinsics if intrinsics is None else intrinsics
    return Clip(video, request.prompt, target, intrinsics, name=str(request.video))


def output_names(requests: Sequence[ScoreRequest]) -> list[str]:
    """A folder name for every request: the video's stem, with `-2`, `-3`, ... where stems repeat."""
    names: list[str] = []
    for request in requests:
        stem = request.video.stem if request.video.is_file() else request.video.resolve().name
        name, count = stem, 1
        while name in names:
            count += 1
            name = f"{stem}-{count}"
        names.append(name)
    return names


def _read_prompts(path: Path, count: int) -> list[str]:
    lines = _read_text(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != count:
        raise UserError(
            f"Prompt file {str(path)!r} holds {len(lines)} prompts for {count} videos. Write one prompt a line."
        )
    return [line.strip() for line in lines]


def _read_list(path: Path) -> list[ScoreRequest]:
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _jsonl_rows(path)
    requests = [_to_request(row, where, path.parent) for where, row in rows]
    if not requests:
        raise UserError(f"List {str(path)!r} is empty. Give it a row a video with the keys {list(LIST_KEYS)}.")
    return requests


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(_read_text(path).splitlines(keepends=True))
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise UserError(f"{where}: the row has another number of fields than the header {reader.fieldnames}.")
        yield where, row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not a JSON object: {error}.") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: received {row!r}; every line is an object with the keys {list(LIST_KEYS)}.")
        yield where, row


def _to_request(row: dict[str, Any], where: str, folder: Path) -> ScoreRequest:
    for key, value in row.items():
        if key not in LIST_KEYS:
            raise UserError(f"{where}: unknown key {key!r}. Allowed: {list(LIST_KEYS)}.{suggest(key, LIST_KEYS)}")
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: {key!r} must be text, received {value!r}.")
    if not row.get("video"):
        raise UserError(f"{where}: key 'video' is missing. Allowed: {list(LIST_KEYS)}.")
    files = {key: folder / row[key] if row.get(key) else None for key in ("video", "trajectory", "intrinsics")}
    video = files["video"]
    if video is None or not video.exists():
        raise VideoError(f"{where}: video {str(video)!r} does not exist. Paths are relative to the list's folder.")
    return ScoreRequest(video, row.get("prompt") or "", files["trajectory"], files["intrinsics"])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read as text: {error}.") from error
