"""True clips with their prompts: found early, read one by one when they are encoded."""

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
    """A true clip.

    Attributes:
        name: Name in results and messages.
        prompt: What it shows.
        read: Give its frames `(T, 3, H, W)`, RGB in [0, 1], of the model's size.
    """

    name: str
    prompt: str
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class ReferenceFile:
    """A true clip on disk.

    Attributes:
        path: Video file or folder of images.
        prompt: What it shows.
    """

    path: Path
    prompt: str


def find_reference_files(section: ReferenceClipsSection) -> list[ReferenceFile]:
    """The files of reference clips; empty where the backbone makes the clips.

    Raises:
        UserError: There is no video, or one has no prompt beside it.
    """
    if section.from_backbone:
        return []
    videos = [video for path in section.paths for video in find_videos(Path(path).expanduser())]
    files = [ReferenceFile(video, prompt_beside(video)) for video in videos[: section.num_clips]]
    missing = [str(file.path) for file in files if not file.prompt]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} reference clips have no prompt (first: {missing[0]!r}). Write what a clip "
            "shows into a text file of its name beside it, e.g. room.txt beside room.mp4."
        )
    return files


def reference_clips(section: ReferenceClipsSection, backbone: Backbone, seed: int) -> list[ReferenceClip]:
    """The reference clips of a backbone's size.

    Args:
        section: Says where they are.
        backbone: The model; it makes them itself where the section says so.
        seed: Seed of clips that the backbone makes.

    Raises:
        UserError: There are none, or one has no prompt.
    """
    if section.from_backbone:
        made = backbone.reference_clips(section.num_clips, seed)
        return [ReferenceClip(clip.name, clip.prompt, _constant(clip.video.frames)) for clip in made]
    return [
        ReferenceClip(file.path.name, file.prompt, _reader(file.path, backbone))
        for file in find_reference_files(section)
    ]


def fit_frames(frames: Tensor, geometry: LatentGeometry, name: str) -> Tensor:
    """Cut a clip to the length and size of a model's videos.

    The first frames are taken as they are, whatever the frame rate; they are scaled (antialiased) until they cover the
    model's size, and the centre is cut out.

    Args:
        frames: `(T, 3, H, W)`, RGB in [0, 1].
        geometry: Sizes of the model.
        name: Name of the clip in messages.

    Raises:
        UserError: It has too few frames.
    """
    if len(frames) < geometry.video_frames:
        raise UserError(
            f"Reference clip {name!r} has {len(frames)} frames, and the model makes {geometry.video_frames}. Take "
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
