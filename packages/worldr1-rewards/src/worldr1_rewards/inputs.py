"""Inputs of `worldr1 score`: files, folders and lists become clips with prompt, path and intrinsics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldr1_core.camera.formats import load_intrinsics, load_trajectory
from worldr1_core.camera.intrinsics import StatedCamera
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import TrajectoryError, UserError, VideoError
from worldr1_core.prompt_files import read_prompt_file
from worldr1_core.video import Video
from worldr1_core.video_io import find_videos, read_video
from worldr1_core.written_files import read_video_record
from worldr1_rewards.score_lists import LIST_SUFFIXES, ListRow, read_list

TrajectoryLike = str | os.PathLike[str] | CameraTrajectory
"""A camera path, or the file that holds it."""
IntrinsicsLike = str | os.PathLike[str] | Tensor | np.ndarray[Any, Any]
"""Intrinsics `(3, 3)`, in pixels or normalised, or the file that holds them."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One clip to be scored, before it is read.

    Attributes:
        video: File or image folder.
        prompt: Text it was generated from; may be empty.
        trajectory: Commanded path or its file; `None` takes the camera words of the prompt.
        intrinsics: Known intrinsics or their file; `None` takes the default guess.
        commanded: Commanded path from the record beside a generated video, where it is not that of the camera words.
        listed_in: File and line of the list that names the clip, for messages.
        problem: Why there is no such clip, if that is known before it is read.
    """

    video: Path
    prompt: str = ""
    trajectory: TrajectoryLike | None = None
    intrinsics: IntrinsicsLike | None = None
    commanded: CameraTrajectory | None = None
    listed_in: str | None = None
    problem: str | None = None


def collect_requests(
    paths: Sequence[Path],
    *,
    prompt: str | None = None,
    prompts_file: Path | None = None,
    trajectory: Path | None = None,
    intrinsics: Path | None = None,
) -> list[ScoreRequest]:
    """Expand command-line arguments into requests, without reading any video.

    A path that does not exist becomes a request with a `problem`, so that the other clips are scored. A clip for which
    neither a list nor the arguments give a prompt takes the prompt, and the commanded path, from the JSON that
    `worldr1 generate` wrote beside it.

    Args:
        paths: Video files, image folders, folders of videos, and `.csv`/`.jsonl` lists, in any mixture.
        prompt: One prompt for every clip that a list does not give its own.
        prompts_file: Prompt file (`worldr1_core.prompt_files`) with as many prompts as there are clips.
        trajectory: Commanded path for every clip that a list does not give its own.
        intrinsics: Known intrinsics, likewise.

    Raises:
        UserError: A list is malformed, or the number of prompts differs from that of clips.
    """
    if prompt is not None and prompts_file is not None:
        raise UserError("Give --prompt or --prompts, not both.")
    requests = [request for path in paths for request in expand_path(path)]
    prompts = [prompt] * len(requests) if prompts_file is None else _read_prompts(prompts_file, requests)
    return [complete(request, text, trajectory, intrinsics) for request, text in zip(requests, prompts, strict=True)]


def load_request(request: ScoreRequest) -> Clip:
    """Read a request's files, with messages that name the list's line.

    Raises:
        VideoError: The video cannot be read, has fewer than two frames, or does not fit into memory.
        UserError: Another of its files cannot be used.
    """
    where = "" if request.listed_in is None else f"{request.listed_in}: "
    if request.problem is not None:
        raise VideoError(f"{where}{request.problem}")
    try:
        return _with_commanded(load_clip(request), request)
    except UserError as error:
        raise type(error)(f"{where}{error}") from error
    except MemoryError as error:
        raise VideoError(
            f"{where}{request.video}: the frames do not fit into memory. Scale the video down or cut it into pieces."
        ) from error
    except OSError as error:
        raise VideoError(f"{where}{request.video}: cannot be read: {error.strerror or error}.") from error


def load_clip(request: ScoreRequest) -> Clip:
    """Read a request's files.

    Intrinsics come from `request.intrinsics`; else from the trajectory file, if it states some; else they are unknown.
    The camera words of the prompt become `Clip.moves` where neither a file nor a record beside the video gives a path.

    Raises:
        VideoError: The video cannot be read, or has fewer than two frames.
        TrajectoryError: The path or the intrinsics are malformed, or the path has another length than the video.
    """
    video = read_video(request.video)
    clip = make_clip(
        video,
        request.prompt,
        trajectory=request.trajectory,
        intrinsics=request.intrinsics,
        name=str(request.video),
    )
    # Beside a path from a record, words are no command of their own.
    return clip if request.commanded is None else replace(clip, moves=())


def make_clip(
    video: Video,
    prompt: str = "",
    *,
    trajectory: TrajectoryLike | None = None,
    intrinsics: IntrinsicsLike | None = None,
    name: str = "clip",
) -> Clip:
    """A clip of a video that has been read.

    Args:
        video: Frames.
        prompt: Its camera words command the path, unless `trajectory` does.
        trajectory: Commanded path, with as many poses as the video has frames.
        intrinsics: Known intrinsics; left out, those that the trajectory states.
        name: Name of the clip in messages and results.

    Raises:
        VideoError: The video has fewer than two frames.
        TrajectoryError: The path or the intrinsics are malformed, or the path has another length than the video.
    """
    if video.num_frames < 2:
        raise VideoError(f"{name}: received {video.num_frames} frame; 3D consistency needs at least 2. Give a video.")
    known = None if intrinsics is None else fitted_intrinsics(intrinsics, video.size)
    if trajectory is None:
        return Clip(video, prompt, intrinsics=known, name=name)
    target = _fitted_trajectory(trajectory, video, with_camera=known is None)
    return Clip(video, prompt, target, target.intrinsics if known is None else known, name=name)


def fitted_intrinsics(intrinsics: IntrinsicsLike, image_size: tuple[int, int]) -> Tensor:
    """Known intrinsics in pixels of a clip of `image_size` `(H, W)`; normalised ones are multiplied by it.

    Raises:
        TrajectoryError: They are no pinhole camera, or belong to an image of another aspect ratio.
    """
    if isinstance(intrinsics, str | os.PathLike):
        return load_intrinsics(intrinsics, image_size)
    return StatedCamera(torch.as_tensor(intrinsics)).at(image_size)


def _fitted_trajectory(trajectory: TrajectoryLike, video: Video, *, with_camera: bool) -> CameraTrajectory:
    """A commanded path with intrinsics in pixels of the video, or without any."""
    if not isinstance(trajectory, CameraTrajectory):
        return load_trajectory(trajectory, num_frames=video.num_frames, image_size=video.size, with_camera=with_camera)
    if trajectory.num_frames != video.num_frames:
        raise TrajectoryError(
            f"The trajectory has {trajectory.num_frames} poses, the clip has {video.num_frames} frames. Give one pose "
            "per frame, or resample it."
        )
    if trajectory.intrinsics is None or not with_camera:
        return replace(trajectory, intrinsics=None, image_size=None)
    known = StatedCamera(trajectory.intrinsics, trajectory.image_size).at(video.size)
    return replace(trajectory, intrinsics=known, image_size=video.size)


def output_names(requests: Sequence[ScoreRequest], out: Path | None = None) -> list[str]:
    """A folder name for every request: the video's stem, with `-2`, `-3`, ... where stems repeat.

    A file such as `...mp4`, whose stem would name another folder than one in `out`, is called `clip`.

    Args:
        requests: The clips.
        out: Folder in which the folders will lie. A name that would put a clip's files into an image folder that is
            scored, or above a video that is scored, is not used either.
    """
    taken = set() if out is None else _folders_of_videos(requests, out.resolve())
    names: list[str] = []
    for request in requests:
        stem = _stem(request)
        stem = "clip" if stem in ("", ".", "..") else stem
        name, count = stem, 1
        while name in names or name in taken:
            count += 1
            name = f"{stem}-{count}"
        names.append(name)
    return names


def _stem(request: ScoreRequest) -> str:
    if request.problem is not None:  # the file system may refuse even to look at such a path
        return request.video.stem
    return request.video.stem if request.video.is_file() else request.video.resolve().name


def _folders_of_videos(requests: Sequence[ScoreRequest], out: Path) -> set[str]:
    """Names within `out` of folders that are a clip or hold one."""
    videos = [request.video.resolve() for request in requests if request.problem is None]
    inside = [video for video in videos if video.is_relative_to(out) and video != out]
    return {video.relative_to(out).parts[0] for video in inside if video.parent != out or video.is_dir()}


def expand_path(path: Path) -> list[ScoreRequest]:
    """The clips that a path names: a video, the videos of a folder, or the rows of a list.

    Raises:
        UserError: A list is malformed.
    """
    if path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        return [_from_row(row, path.parent) for row in read_list(path)]
    try:
        return [ScoreRequest(video) for video in find_videos(path)]
    except VideoError as error:
        return [ScoreRequest(path, problem=str(error))]


def _from_row(row: ListRow, folder: Path) -> ScoreRequest:
    video, trajectory, intrinsics = (
        folder / row.values[key] if key in row.values else None for key in ("video", "trajectory", "intrinsics")
    )
    assert video is not None, "read_list refuses a row without a video"
    problem = None
    try:
        if (found := find_videos(video)) != [video]:
            problem = f"{video}: is a folder with clips of its own ({found[0].name!r}, ...). Give each a row."
    except VideoError as error:
        problem = f"{error} Paths are relative to the list's folder."
    prompt = row.values.get("prompt", "")
    return ScoreRequest(video, prompt, trajectory, intrinsics, listed_in=row.where, problem=problem)


def _read_prompts(path: Path, requests: Sequence[ScoreRequest]) -> list[str]:
    content = read_prompt_file(path)
    if len(content.prompts) != len(requests):
        videos = f"{len(requests)} video{'' if len(requests) == 1 else 's'}"
        if missing := sum(request.problem is not None for request in requests):
            videos += f", {missing} of which cannot be found"
        raise UserError(
            f"Prompt file {str(path)!r} holds {content.count} for {videos}. Write one prompt per line, in the order of "
            "the videos; blank lines and lines that start with '#' do not count. For videos without a prompt, use a "
            ".csv or .jsonl list."
        )
    return content.prompts


def complete(
    request: ScoreRequest,
    prompt: str | None,
    trajectory: TrajectoryLike | None,
    intrinsics: IntrinsicsLike | None,
) -> ScoreRequest:
    """The request with the arguments, and the record beside its video, in place of what it leaves open."""
    request = replace(
        request,
        trajectory=trajectory if request.trajectory is None else request.trajectory,
        intrinsics=intrinsics if request.intrinsics is None else request.intrinsics,
    )
    if request.prompt or prompt is not None:
        return replace(request, prompt=request.prompt or prompt or "")
    return _with_record(request)


def _with_record(request: ScoreRequest) -> ScoreRequest:
    """The request with prompt and commanded path from the record beside its video, if there is one."""
    record = None if request.problem is not None else read_video_record(request.video)
    if record is None:
        return request
    request, stored = replace(request, prompt=record["prompt"]), record.get("trajectory")
    if request.trajectory is not None or not isinstance(stored, dict) or "c2w" not in stored:
        return request
    try:
        commanded = CameraTrajectory(
            stored["c2w"], stored.get("intrinsics"), stored.get("image_size"), stored.get("scene_depth")
        )
    except TrajectoryError as error:
        return replace(request, problem=f"{request.video}: the record beside it holds no usable trajectory: {error}")
    return replace(request, commanded=commanded)


def _with_commanded(clip: Clip, request: ScoreRequest) -> Clip:
    commanded = request.commanded
    if commanded is None:
        return clip
    if commanded.num_frames != clip.video.num_frames:
        raise TrajectoryError(
            f"{request.video}: the record beside it commands {commanded.num_frames} poses, the video has "
            f"{clip.video.num_frames} frames. Give --prompt or --trajectory."
        )
    if clip.target is not None and torch.allclose(clip.target.c2w, commanded.c2w, atol=1e-6):
        return clip
    known = commanded.intrinsics if commanded.image_size == clip.video.size else None
    return replace(clip, target=commanded, intrinsics=known if clip.intrinsics is None else clip.intrinsics)
