"""Clips to the tensors and descriptions of the wire format, and back, without loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move
from worldr1_core.clip import Clip
from worldr1_core.errors import TrajectoryError, UserError
from worldr1_core.video import Video
from worldr1_rewards.serving.frame_bytes import decode_frames, encode_frames
from worldr1_rewards.serving.schema import ClipPart, TargetPart, VideoPart, wire_text


def clip_part(clip: Clip, *, with_reference: bool) -> ClipPart:
    """Describe a clip beside its tensors."""
    reference = clip.reference if with_reference else None
    return ClipPart(
        name=wire_text(clip.name),
        prompt=wire_text(clip.prompt),
        moves=[str(move) for move in clip.moves],
        video=_video_part(clip.video),
        target=None if clip.target is None else _target_part(clip.target),
        has_intrinsics=clip.intrinsics is not None,
        reference=None if reference is None else _video_part(reference),
    )


def tensors_of_clip(clip: Clip, *, with_reference: bool) -> dict[str, Tensor]:
    """Tensors of a clip under their names in the wire format, without the index of the clip."""
    tensors = {"frames": encode_frames(clip.video.frames)}
    if with_reference and clip.reference is not None:
        tensors["reference"] = encode_frames(clip.reference.frames)
    if clip.target is not None:
        tensors["target"] = clip.target.c2w
        if clip.target.intrinsics is not None:
            tensors["target_intrinsics"] = clip.target.intrinsics
    if clip.intrinsics is not None:
        tensors["intrinsics"] = _matrix(clip.intrinsics)
    return tensors


def clip_from_tensors(part: ClipPart, tensors: Mapping[str, Tensor]) -> Clip:
    """Build a clip.

    Raises:
        UserError: Frames, path or intrinsics hold values that a clip does not allow.
    """
    unknown = [move for move in part.moves if move not in set(Move)]
    if unknown:
        raise UserError(f"unknown camera words {unknown!r}. Allowed: {[str(move) for move in Move]}.")
    intrinsics = tensors.get("intrinsics")
    if intrinsics is not None and not bool(torch.isfinite(intrinsics).all()):
        raise UserError("intrinsics must be finite.")
    return Clip(
        video=_video(part.video, tensors["frames"]),
        prompt=part.prompt,
        target=None if part.target is None else _target(part.target, tensors),
        intrinsics=None if intrinsics is None else intrinsics.clone(),
        name=part.name,
        reference=None if part.reference is None else _video(part.reference, tensors["reference"]),
        moves=tuple(Move(move) for move in part.moves),
    )


def _video_part(video: Video) -> VideoPart:
    size = None if video.full_size is None else [int(side) for side in video.full_size]
    source = None if video.source is None else wire_text(video.source)
    return VideoPart(fps=float(video.fps), source=source, full_size=size)


def _video(part: VideoPart, frames: Tensor) -> Video:
    size = None if part.full_size is None else (part.full_size[0], part.full_size[1])
    decoded = decode_frames(frames)
    if frames.dtype != torch.uint8:
        return Video(decoded, fps=part.fps, source=part.source, full_size=size)
    # Levels / 255 are valid frames, and the constructor would read all of them to find that out.
    video = Video(decoded[:1, :, :1, :1], fps=part.fps, source=part.source, full_size=size)
    object.__setattr__(video, "frames", decoded)
    return video


def _target_part(path: CameraTrajectory) -> TargetPart:
    size = None if path.image_size is None else [int(side) for side in path.image_size]
    depth = None if path.scene_depth is None else float(path.scene_depth)
    return TargetPart(image_size=size, scene_depth=depth, has_intrinsics=path.intrinsics is not None)


def _target(part: TargetPart, tensors: Mapping[str, Tensor]) -> CameraTrajectory:
    size = None if part.image_size is None else (part.image_size[0], part.image_size[1])
    c2w = tensors["target"].clone()
    path = CameraTrajectory(c2w, tensors.get("target_intrinsics"), size, part.scene_depth)
    # The constructor makes rotations exact, which can change the last bits of those that are exact already.
    object.__setattr__(path, "c2w", c2w)
    return path


def _matrix(values: Tensor) -> Tensor:
    matrix = torch.as_tensor(values).detach().cpu()
    if matrix.shape != (3, 3):
        raise TrajectoryError(f"Intrinsics must be (3, 3), received {tuple(matrix.shape)}.")
    return matrix if matrix.dtype in (torch.float32, torch.float64) else matrix.double()
