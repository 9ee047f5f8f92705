"""Accuracy of relative poses over all pairs of frames, as an area under the recall curve (RotAUC and TransAUC).

Errors are angles between relative rotations and between directions of travel, so that no scale is fitted. Unlike in
some published code, a direction and its opposite are different.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_core.camera.geometry import rotation_angle
from worldr1_core.errors import TrajectoryError
from worldr1_rewards.camera_metrics import REST, relative_to_first

MIN_BASELINE = 1e-3
"""Travel between two frames, as a share of the path's extent, below which it has no direction."""


def pair_rotation_errors(estimate: Tensor, reference: Tensor) -> Tensor:
    """Angle between the relative rotations of every pair of frames.

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape.

    Returns:
        `(T (T - 1) / 2,)` degrees in [0, 180].

    Raises:
        TrajectoryError: The paths are malformed or of different lengths.
    """
    first, second = (_relative_rotations(relative_to_first(path)) for path in _same_length(estimate, reference))
    return torch.rad2deg(rotation_angle(first.transpose(1, 2) @ second))


def pair_direction_errors(estimate: Tensor, reference: Tensor) -> Tensor:
    """Angle between the directions of travel, seen from the earlier frame, of pairs between which the reference moves.

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape.

    Returns:
        `(P,)` degrees in [0, 180]; 180 where the estimate stands still. Empty if the reference never moves.

    Raises:
        TrajectoryError: The paths are malformed or of different lengths.
    """
    first, second = (_relative_shifts(relative_to_first(path)) for path in _same_length(estimate, reference))
    moves = _moves(second)
    first, second, stands = first[moves], second[moves], ~_moves(first)[moves]
    cross = torch.linalg.cross(first, second).norm(dim=-1)
    angle = torch.rad2deg(torch.atan2(cross, (first * second).sum(-1)))
    return torch.where(stands, 180.0, angle)


def pose_auc(errors: Tensor, threshold: float) -> float:
    """Area under the share of errors below t, for t from 0 to a threshold, divided by the threshold.

    It is the mean of max(0, 1 - error / threshold).

    Args:
        errors: Degrees, one or more.
        threshold: Degrees, positive.

    Returns:
        In [0, 1]; higher is better.

    Raises:
        TrajectoryError: There is no error to average, or the threshold is not positive.

    Example:
        >>> pose_auc(torch.tensor([0.0, 2.5, 10.0]), 5.0)
        0.5
    """
    if threshold <= 0 or len(errors) == 0:
        raise TrajectoryError(
            f"An AUC needs a positive threshold and at least one error, received {threshold!r} and {len(errors)}."
        )
    return float((1 - errors.double() / threshold).clamp(min=0).mean())


def _same_length(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if len(estimate) != len(reference) or len(estimate) < 2:
        raise TrajectoryError(
            f"Relative poses need two paths of at least 2 poses each, received {len(estimate)} and {len(reference)}."
        )
    return estimate, reference


def _pairs(count: int) -> tuple[Tensor, Tensor]:
    earlier, later = torch.triu_indices(count, count, offset=1)
    return earlier, later


def _relative_rotations(c2w: Tensor) -> Tensor:
    earlier, later = _pairs(len(c2w))
    return c2w[earlier, :3, :3].transpose(1, 2) @ c2w[later, :3, :3]


def _relative_shifts(c2w: Tensor) -> Tensor:
    earlier, later = _pairs(len(c2w))
    shift = c2w[later, :3, 3] - c2w[earlier, :3, 3]
    return (c2w[earlier, :3, :3].transpose(1, 2) @ shift[..., None])[..., 0]


def _moves(shifts: Tensor) -> Tensor:
    length = shifts.norm(dim=-1)
    return length > max(REST, MIN_BASELINE * float(length.max()))
