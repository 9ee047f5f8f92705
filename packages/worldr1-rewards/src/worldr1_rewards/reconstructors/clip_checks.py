"""Checks of a clip that every reconstructor makes before it looks for cameras."""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, TrajectoryError
from worldr1_rewards.reconstructors.points import texture_strength
from worldr1_rewards.reconstructors.pyramid import blur, luma

MIN_FRAMES = 3
MIN_SIDE = 24
MIN_TEXTURE = 2e-6
"""Least mean squared gradient of the smoothed grey frames: about a third of an 8-bit step per pixel."""


def check_clip_size(clip: Clip, who: str) -> None:
    """Refuse a clip of fewer than `MIN_FRAMES` frames, or with a side below `MIN_SIDE` pixels.

    Args:
        clip: The clip.
        who: What needs more, e.g. "a fit": begins the second half of the reason.

    Raises:
        ScoreUnavailable: It is too short or too small.
    """
    video = clip.video
    if video.num_frames < MIN_FRAMES or min(video.size) < MIN_SIDE:
        raise ScoreUnavailable(
            f"{clip.name}: received {video.num_frames} frame(s) of {video.size[0]}x{video.size[1]}; {who} needs at "
            f"least {MIN_FRAMES} frames, and {MIN_SIDE} pixels on each side."
        )


def check_texture(name: str, frames: Tensor, why: str) -> None:
    """Refuse frames that are blank.

    Args:
        name: How the reason calls the clip.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        why: What follows from it; ends the reason.

    Raises:
        ScoreUnavailable: The median frame has less texture than `MIN_TEXTURE`.
    """
    strength = float(texture_strength(blur(luma(frames), 1.0)).mean((1, 2)).median())
    if not strength >= MIN_TEXTURE:
        raise ScoreUnavailable(
            f"{name}: the frames show no texture (mean squared gradient {strength:.1e}, at least {MIN_TEXTURE:.0e} is "
            f"needed), {why}"
        )


def clip_intrinsics(clip: Clip) -> Tensor:
    """Known intrinsics, or the default guess, `(3, 3)` float64.

    Raises:
        TrajectoryError: The known ones are not a pinhole camera's.
    """
    if clip.intrinsics is None:
        return default_intrinsics(*clip.video.size)
    matrix = clip.intrinsics.double()
    if matrix.shape != (3, 3) or not bool(torch.isfinite(matrix).all()) or float(matrix.diagonal()[:2].min()) <= 0:
        raise TrajectoryError(
            f"{clip.name}: intrinsics must be a finite 3x3 matrix with positive focal lengths, received "
            f"{clip.intrinsics.tolist()!r}."
        )
    return matrix
