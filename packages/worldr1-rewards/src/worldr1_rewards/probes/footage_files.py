"""Folders of real clips: which files beside a video are its camera path, its intrinsics and its prompt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worldr1_core.camera.formats import INTRINSICS_SUFFIXES, SUFFIXES
from worldr1_core.clip import Clip
from worldr1_core.errors import TrajectoryError, UserError, VideoError
from worldr1_core.video_io import find_videos
from worldr1_core.written_files import read_video_record
from worldr1_rewards.inputs import ScoreRequest, load_request

PATH_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix != ".txt")
"""Endings of camera path files; `.txt` is one too where it holds numbers rather than a prompt."""
INTRINSICS_ENDING = "-intrinsics"
_NUMBERS_OF_A_POSE = 8
"""Fewest numbers in a line of a text file of poses."""


@dataclass(frozen=True, slots=True)
class FootageFiles:
    """The files of one clip.

    Attributes:
        label: The video's name within the folder.
        request: The files, not yet read; without a `trajectory` where there are no cameras.
    """

    label: str
    request: ScoreRequest

    def load(self) -> Clip:
        """Read the clip; without a camera path file it has no target, whatever its prompt says.

        Raises:
            UserError: One of the files cannot be used, or the path has another length than the video.
        """
        clip = load_request(self.request)
        return clip if self.request.trajectory is not None else replace(clip, target=None, moves=())


def find_footage(folder: str | os.PathLike[str]) -> tuple[list[FootageFiles], Mapping[str, str]]:
    """The clips of a folder and its sub-folders, in natural order, without reading a video.

    Args:
        folder: Holds `NAME.mp4` or another format of a video; beside it may stand a camera path (`NAME.json` or another
            format that `load_trajectory` reads), `NAME-intrinsics.json`, and a prompt (`NAME.txt`).

    Returns:
        The clips, and label -> reason of those whose files are ambiguous or unreadable.

    Raises:
        VideoError: There is no such folder, or no clip in it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise VideoError(f"{folder}: is a file. --clips takes a folder of videos with their camera paths beside them.")
    videos = find_videos(folder)
    stems = {video.with_name(_stem(video)) for video in videos if video.suffix.lower() not in PATH_SUFFIXES}
    found, problems = [], {}
    for video in videos:
        stem = video.with_name(video.stem.removesuffix(INTRINSICS_ENDING))
        if video.suffix.lower() in PATH_SUFFIXES and stem in stems:
            continue  # the camera of the video of this name
        label = "." if video == folder else video.relative_to(folder).as_posix()
        try:
            found.append(FootageFiles(label, _request(video)))
        except UserError as error:
            problems[label] = str(error)
    return found, problems


def _request(video: Path) -> ScoreRequest:
    paths = [path for path in _existing(video, "", PATH_SUFFIXES) if path != video]
    record, prompt = read_video_record(video), ""
    if record is not None:  # the JSON of a generated video is no camera path
        paths, prompt = [path for path in paths if path.suffix != ".json"], record["prompt"]
    for path in _existing(video, "", (".txt",)):
        words = _read_text(path)
        if _holds_poses(words):
            paths.append(path)
        else:
            prompt = " ".join(words.split())
    intrinsics = _existing(video, INTRINSICS_ENDING, INTRINSICS_SUFFIXES)
    for files in (paths, intrinsics):
        if len(files) > 1:
            names = [path.name for path in files]
            raise TrajectoryError(f"{video}: {names} beside it may each be its camera. Keep one of them.")
    return ScoreRequest(video, prompt, paths[0] if paths else None, intrinsics[0] if intrinsics else None)


def _stem(video: Path) -> str:
    return video.name if video.is_dir() else video.stem


def _existing(video: Path, ending: str, suffixes: Sequence[str]) -> list[Path]:
    """Files beside a video that are called as it is, but for the end of the name."""
    video = video.resolve() if video.name in ("", "..") else video
    paths = (video.with_name(f"{_stem(video)}{ending}{suffix}") for suffix in suffixes)
    return [path for path in paths if path.is_file()]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}.") from error


def _holds_poses(text: str) -> bool:
    """Return True if a line holds as many numbers as a pose has, which no line of a prompt does."""
    return any(sum(map(_is_number, line.replace(",", " ").split())) >= _NUMBERS_OF_A_POSE for line in text.splitlines())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
