"""Videos in the forms in which Python users hold them: paths, tensors, `Video` and `Clip` objects, lists of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError, VideoError, shorten
from worldr1_core.video import Video
from worldr1_rewards.inputs import (
    IntrinsicsLike,
    ScoreRequest,
    TrajectoryLike,
    complete,
    expand_path,
    fitted_intrinsics,
    load_request,
    make_clip,
)

VideoLike = str | os.PathLike[str] | Tensor | np.ndarray[Any, Any] | Video | Clip
"""One video: a path, frames `(T, 3, H, W)` in [0, 1], a `Video` or a `Clip`.

A batch `(B, T, 3, H, W)`, a folder of videos and a `.csv` or `.jsonl` list stand for several.
"""

_PATH = (str, os.PathLike)
_ARRAY = (Tensor, np.ndarray)


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Clips to be scored, made one at a time.

    Attributes:
        loaders: Each returns one clip.
        is_single: Whether one clip was given, rather than a list, a batch or a folder of clips.
    """

    loaders: Sequence[Callable[[], Clip]]
    is_single: bool

    def __iter__(self) -> Iterator[Clip]:
        for load in self.loaders:
            yield load()


def collect_clips(
    videos: VideoLike | Iterable[VideoLike],
    prompt: str | Sequence[str | None] | None = None,
    *,
    trajectory: TrajectoryLike | Sequence[TrajectoryLike | None] | None = None,
    intrinsics: IntrinsicsLike | Sequence[IntrinsicsLike | None] | None = None,
) -> ClipSource:
    """Bring videos of any form into clips, as `worldr1 score` does with its arguments.

    Args:
        videos: One or several.
        prompt: Of all videos, or one per video.
        trajectory: Commanded path of all videos, or one per video.
        intrinsics: Known intrinsics of all videos, or one per video.

    Raises:
        VideoError: A file does not exist, or something is no video.
        UserError: The number of prompts, paths or intrinsics differs from that of videos.
    """
    items, is_single = _as_items(videos)
    found = [source for item in items for source in _expand(item)]
    is_single = is_single and len(found) == 1 and not _is_listed(items[0], found[0])
    options = zip(
        _per_video(prompt, (str,), len(found), "prompt"),
        _per_video(trajectory, (*_PATH, CameraTrajectory), len(found), "trajectory"),
        _per_video(intrinsics, (*_PATH, *_ARRAY), len(found), "intrinsics"),
        strict=True,
    )
    names = ["clip"] if is_single else [f"clip {index}" for index in range(len(found))]
    loaders = [_loader(source, name, *values) for source, name, values in zip(found, names, options, strict=True)]
    return ClipSource(loaders, is_single)


def _as_items(videos: Any) -> tuple[list[Any], bool]:
    if isinstance(videos, _ARRAY) and videos.ndim == 5:
        return list(videos), False
    if isinstance(videos, (*_PATH, *_ARRAY, Video, Clip)):
        return [videos], True
    if isinstance(videos, list | tuple | Iterator):
        return list(videos), False
    raise VideoError(
        f"A video is a path, a tensor (T, 3, H, W) in [0, 1], a Video or a Clip, received {shorten(videos)}. "
        "Give one, a list of them, or a batch (B, T, 3, H, W)."
    )


def _expand(item: Any) -> Sequence[ScoreRequest | Video | Clip]:
    if isinstance(item, _PATH):
        if not os.fspath(item):
            raise VideoError("The path of a video must not be empty. '.' is the current folder.")
        return expand_path(Path(item))
    if isinstance(item, Video | Clip):
        return [item]
    if isinstance(item, _ARRAY):
        return [Video(_as_frames(item))]
    raise VideoError(
        f"A video is a path, a tensor (T, 3, H, W) in [0, 1], a Video or a Clip, received {shorten(item)} in a list."
    )


def _as_frames(frames: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """Frames as float32; half precision is widened, integers are left for `Video` to refuse."""
    tensor = frames if isinstance(frames, Tensor) else _from_numpy(frames)
    return tensor.detach().float() if tensor.is_floating_point() else tensor


def _from_numpy(frames: np.ndarray[Any, Any]) -> Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(frames))
    except TypeError as error:
        raise VideoError(
            f"Frames must be an array (T, 3, H, W) of floats in [0, 1], received {frames.dtype}."
        ) from error


def _is_listed(item: Any, found: ScoreRequest | Video | Clip) -> bool:
    """Return True if a path is a folder or list that names the clip, rather than the clip itself."""
    return isinstance(found, ScoreRequest) and (found.listed_in is not None or found.video != Path(item))


def _per_video(value: Any, one: tuple[type, ...], count: int, name: str) -> list[Any]:
    if value is None or isinstance(value, one):
        return [value] * count
    if not isinstance(value, list | tuple):
        raise UserError(f"{name} must be one for all videos or a list with one per video, received {shorten(value)}.")
    for entry in value:
        if entry is not None and not isinstance(entry, one):
            raise UserError(f"The list {name} holds {shorten(entry)}. Each entry is as {name} of one video, or None.")
    if len(value) != count:
        raise UserError(f"{name} holds {len(value)} for {count} videos. Give one per video, or one for all.")
    return list(value)


def _loader(
    source: ScoreRequest | Video | Clip,
    name: str,
    prompt: str | None,
    trajectory: TrajectoryLike | None,
    intrinsics: IntrinsicsLike | None,
) -> Callable[[], Clip]:
    if isinstance(source, ScoreRequest):
        request = complete(source, prompt, trajectory, intrinsics)
        if request.problem is not None:
            load_request(request)  # raises: a missing file stops before any work
        return partial(load_request, request)
    if isinstance(source, Clip):
        return partial(_complete, source, prompt, trajectory, intrinsics)
    return partial(
        make_clip, source, prompt or "", trajectory=trajectory, intrinsics=intrinsics, name=source.source or name
    )


def _complete(
    clip: Clip, prompt: str | None, trajectory: TrajectoryLike | None, intrinsics: IntrinsicsLike | None
) -> Clip:
    """A clip with the arguments in place of what it leaves open."""
    if prompt == clip.prompt:
        prompt = None
    own_path = None if clip.moves else clip.target
    for key, own, given in (
        ("prompt", clip.prompt or None, prompt),
        ("trajectory", own_path, trajectory),
        ("intrinsics", clip.intrinsics, intrinsics),
    ):
        if own is not None and given is not None:
            raise UserError(
                f"{clip.name}: the Clip has its own {key}. Leave the argument {key} out for it (None in a list)."
            )
    if intrinsics is not None:
        clip = replace(clip, intrinsics=fitted_intrinsics(intrinsics, clip.video.size))
    if prompt is None and trajectory is None:
        return clip
    path = own_path if trajectory is None else trajectory
    made = make_clip(clip.video, prompt or clip.prompt, trajectory=path, intrinsics=clip.intrinsics, name=clip.name)
    return replace(made, reference=clip.reference)
