"""Clips as plain containers and tensors, for checkpoints that `torch.load(weights_only=True)` reads."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move
from worldr1_core.clip import Clip
from worldr1_core.video import Video


def as_dict(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, as they are."""
    return {item.name: getattr(value, item.name) for item in fields(value)}


def pack_clip(clip: Clip) -> dict[str, Any]:
    """The fields of a clip, and of what it holds."""
    parts = {name: getattr(clip, name) for name in ("video", "target", "reference")}
    packed = {name: None if part is None else as_dict(part) for name, part in parts.items()}
    return {**as_dict(clip), **packed, "moves": [str(move.value) for move in clip.moves]}


def unpack_clip(packed: dict[str, Any]) -> Clip:
    """The clip that `pack_clip` packed."""
    video, target, reference = (packed[name] for name in ("video", "target", "reference"))
    rest = {name: packed[name] for name in ("prompt", "intrinsics", "name")}
    clip = Clip(
        Video(**video),
        target=None if target is None else CameraTrajectory(**target),
        reference=None if reference is None else Video(**reference),
        **rest,
    )
    return replace(clip, moves=tuple(Move(move) for move in packed["moves"]))
