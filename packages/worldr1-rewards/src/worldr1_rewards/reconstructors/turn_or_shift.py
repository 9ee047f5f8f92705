"""Cameras in which a turn is replaced by the shift that moves the image in the same way.

A slow turn shows nearly what a drift to the side does, so an estimate may turn where the camera travelled straight. No
descent leads from the one to the other: both are refined, and the better one is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.rigid import rotation_exp, rotation_log

TRAVEL_SHARE = 0.2
"""Share of the longest step from which a step counts as travel."""


def turning_less(poses: Tensor, share: float, distance: float) -> Tensor:
    """Poses that keep a share of their turn; the rest becomes a shift.

    Args:
        poses: `(T, 4, 4)` world-to-camera, frame 0 = identity.
        share: In [0, 1]; 0 for a camera that does not turn.
        distance: Typical depth, at which turn and shift move points alike.
    """
    turn = rotation_log(poses[:, :3, :3])
    result = poses.clone()
    result[:, :3, :3] = rotation_exp(share * turn)
    result[:, 0, 3] += (1 - share) * turn[:, 1] * distance
    result[:, 1, 3] -= (1 - share) * turn[:, 0] * distance
    return result


def turning_at_rest(poses: Tensor, distance: float) -> Tensor | None:
    """Poses that turn only in the steps in which the camera hardly travels; the other turns become shifts.

    For paths of several moves one after the other: a turn during one of them may be wrong, and right during the next.

    Args:
        poses: `(T, 4, 4)` world-to-camera.
        distance: Typical depth, at which turn and shift move points alike.

    Returns:
        `(T, 4, 4)`, or `None` where the camera travels in all steps or in none.
    """
    centres = invert_pose(poses)[:, :3, 3]
    lengths = centres.diff(dim=0).norm(dim=-1)
    travels = (lengths > TRAVEL_SHARE * lengths.max()).tolist()
    if all(travels) or not any(travels):
        return None
    steps = poses[1:, :3, :3] @ poses[:-1, :3, :3].transpose(1, 2)
    twists = rotation_log(steps)
    rotation, shift, result = poses[0, :3, :3], torch.zeros_like(centres[0]), poses.clone()
    for index, travelling in enumerate(travels):
        if travelling:
            moved = torch.stack([twists[index, 1], -twists[index, 0], twists.new_zeros(())])
            shift = shift + rotation.T @ moved * distance
        else:
            rotation = steps[index] @ rotation
        result[index + 1, :3, :3] = rotation
        result[index + 1, :3, 3] = poses[index + 1, :3, 3] + rotation @ shift
    return result
