"""Reference clips (real videos with prompts): files are checked before a run, and read when they are encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worldr1_core.backbone import Backbone, LatentGeometry
from worldr1_core.errors import UserError
from worldr1_core.video_io import find_videos, read_video
from worldr1_train.held_out_section import ReferenceClipsSection
from worldr1_train.video_prompts import prompt_beside


@dataclass(frozen=True, slots=True)
class ReferenceClip:
    """A real clip.

    Attributes:
        name: Name in results and messages.
        prompt: Description of the clip.
        read: Returns the frames `(T, 3, H, W)`, RGB in [0, 1], in the size of the model's videos.
    """

    name: str
    prompt: str
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class ReferenceFile:
    """File of a real clip.

    Attributes:
        path: Video file or folder of images.
        prompt: Description of the clip.
    """

    path: Path
    prompt: str


def find_reference_files(section: ReferenceClipsSection) -> list[ReferenceFile]:
    """Return the files of reference clips; none if the backbone generates the clips.

    Raises:
        UserError: There is no video, or a video has no prompt beside it.
    """
    if section.from_backbone:
        return []
    videos = [video for path in section.paths for video in find_videos(Path(path).expanduser())]
    files = [ReferenceFile(video, prompt_beside(video)) for video in videos[: section.num_clips]]
    missing = [str(file.path) for file in files if not file.prompt]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} reference clips have no prompt (first: {missing[0]!r}). Write the prompt "
            "of each clip to a text file with the same name beside it, e.g. room.txt beside room.mp4."
        )
    return files


def reference_clips(section: ReferenceClipsSection, backbone: Backbone, seed: int) -> list[ReferenceClip]:
    """Return the reference clips, in the size of a backbone's videos.

    Args:
        section: Settings with the source of the clips.
        backbone: Backbone of the model, which generates the clips itself if the source is `backbone`.
        seed: Seed of clips that the backbone generates.

    Raises:
        UserError: There is no clip, or a clip has no prompt.
    """
    if section.from_backbone:
        made = backbone.reference_clips(section.num_clips, seed)
        return [ReferenceClip(clip.name, clip.prompt, _constant(clip.video.frames)) for clip in made]
    return [
        ReferenceClip(file.path.name, file.prompt, _reader(file.path, backbone))
        for file in find_reference_files(section)
    ]


def fit_frames(frames: Tensor, geometry: LatentGeometry, name: str) -> Tensor:
    """Crop a clip to the length and size of a model's videos.

    The first frames are used, regardless of the frame rate. They are scaled (with antialiasing) to cover the size of
    the model's videos, and cropped to the centre.

    Args:
        frames: `(T, 3, H, W)`, RGB in [0, 1].
        geometry: Sizes of the model.
        name: Name of the clip in messages.

    Returns:
        `(video_frames, 3, video_height, video_width)`, RGB in [0, 1].

    Raises:
        UserError: The clip has too few frames.
    """
    if len(frames) < geometry.video_frames:
        raise UserError(
            f"Reference clip {name!r} has {len(frames)} frames, but the model generates {geometry.video_frames}. Use "
            "longer clips, or lower the backbone's num_frames."
        )
    frames, (height, width) = frames[: geometry.video_frames], (geometry.video_height, geometry.video_width)
    scale = max(height / frames.shape[-2], width / frames.shape[-1])
    size = [max(height, round(frames.shape[-2] * scale)), max(width, round(frames.shape[-1] * scale))]
    if size != list(frames.shape[-2:]):
        frames = torch.nn.functional.interpolate(frames, size, mode="bilinear", antialias=True).clamp(0, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return frames[..., top : top + height, left : left + width]


def _constant(frames: Tensor) -> Callable[[], Tensor]:
    return lambda: frames


def _reader(path: Path, backbone: Backbone) -> Callable[[], Tensor]:
    def read() -> Tensor:
        geometry = backbone.geometry
        return fit_frames(read_video(path, max_frames=geometry.video_frames).frames, geometry, path.name)

    return read
