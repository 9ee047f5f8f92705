"""Conversion of clips to plain containers and tensors, which `torch.load(weights_only=True)` can read."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move
from worldr1_core.clip import Clip
from worldr1_core.video import Video


def as_dict(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, without converting nested dataclasses."""
    return {item.name: getattr(value, item.name) for item in fields(value)}


def pack_clip(clip: Clip) -> dict[str, Any]:
    """Convert a clip to a dictionary, its videos and camera trajectory included."""
    parts = {name: getattr(clip, name) for name in ("video", "target", "reference")}
    packed = {name: None if part is None else as_dict(part) for name, part in parts.items()}
    return {**as_dict(clip), **packed, "moves": [str(move.value) for move in clip.moves]}


def unpack_clip(packed: dict[str, Any]) -> Clip:
    """Restore a clip from the result of `pack_clip`."""
    video, target, reference = (packed[name] for name in ("video", "target", "reference"))
    rest = {name: packed[name] for name in ("prompt", "intrinsics", "name")}
    clip = Clip(
        Video(**video),
        target=None if target is None else CameraTrajectory(**target),
        reference=None if reference is None else Video(**reference),
        **rest,
    )
    return replace(clip, moves=tuple(Move(move) for move in packed["moves"]))
