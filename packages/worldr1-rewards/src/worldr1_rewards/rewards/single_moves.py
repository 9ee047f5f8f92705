"""The paths at which each of the nine single camera moves is tried, where no path is estimated.

Depth takes up how far a camera travels, but not how far it turns: a pan is tried at several angles, so that every move
has the same liberty. The metric `camera-accuracy` and the reward `camera-move-likelihood` share this.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import DEFAULT_CONSTANTS, SINGLE_MOVES, Move, trajectory_from_moves

PAN_SCALES = (0.55, 0.7, 0.85, 1.0, 1.15, 1.3, 1.45)
"""Shares of the vocabulary's angle at which a pan is tried."""


def tried_paths(
    num_frames: int, intrinsics: Tensor | None = None, image_size: tuple[int, int] | None = None
) -> Mapping[Move, tuple[CameraTrajectory, ...]]:
    """Every path that is tried of each of `SINGLE_MOVES`: a pan has one for each of `PAN_SCALES`, another move one.

    Args:
        num_frames: T >= 2 poses of each path.
        intrinsics: `(3, 3)` of the camera in pixels of `image_size`; `None` if unknown.
        image_size: `(H, W)`.
    """
    known = None if intrinsics is None else tuple(intrinsics.double().flatten().tolist())
    return _paths(num_frames, known, None if known is None else image_size)


@functools.lru_cache(maxsize=32)
def _paths(
    num_frames: int, intrinsics: tuple[float, ...] | None, image_size: tuple[int, int] | None
) -> Mapping[Move, tuple[CameraTrajectory, ...]]:
    known = None if intrinsics is None else torch.tensor(intrinsics, dtype=torch.float64).view(3, 3)
    found: dict[Move, tuple[CameraTrajectory, ...]] = {}
    for move in SINGLE_MOVES:
        scales = PAN_SCALES if move in (Move.PAN_LEFT, Move.PAN_RIGHT) else (1.0,)
        turns = [replace(DEFAULT_CONSTANTS, pan=DEFAULT_CONSTANTS.pan * scale) for scale in scales]
        paths = [trajectory_from_moves([move], num_frames, constants=turn) for turn in turns]
        found[move] = tuple(replace(path, intrinsics=known, image_size=image_size) for path in paths)
    return found


def path_key(path: CameraTrajectory) -> bytes:
    """Equal for equal poses, whatever rounding made of the last digits."""
    unit = path.scene_depth or 1.0
    poses = path.c2w.clone()
    poses[:, :3, 3] /= unit
    return (poses * 1e6).round().to(torch.int64).numpy().tobytes()
