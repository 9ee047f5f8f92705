"""Distances between camera paths: RotErr, TransErr and CamMC of the camera-control literature, ATE and RPE of SLAM.

Paths are `(T, 4, 4)` camera-to-world, and are compared relative to their first camera. That anchors them: a similarity
fitted to camera centres alone leaves the roll of a straight path undetermined and has no scale for a camera at rest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worldr1_core.camera.geometry import nearest_rotation, rotation_angle
from worldr1_core.errors import TrajectoryError

REST = 1e-9
"""Extent below which a path counts as standing still, relative to the other path's extent (or absolute)."""


@dataclass(frozen=True, slots=True)
class CameraErrors:
    """RotErr, TransErr and CamMC, as sums over the frames (the form in which they are published).

    Attributes:
        rotation: RotErr, sum of geodesic angles in radians.
        translation: TransErr, sum of distances of normalised camera centres.
        motion: CamMC, sum of Frobenius norms of the difference of the normalised `[R | t]`.
        num_frames: T; sums grow with it.
    """

    rotation: float
    translation: float
    motion: float
    num_frames: int

    @property
    def per_frame(self) -> CameraErrors:
        """The same, divided by the number of frames: comparable between clips of different lengths."""
        count = self.num_frames
        return CameraErrors(self.rotation / count, self.translation / count, self.motion / count, 1)


def relative_to_first(c2w: Tensor) -> Tensor:
    """The path seen from its first camera, `(T, 4, 4)` float64 with frame 0 = identity.

    Raises:
        TrajectoryError: Not `(T, 4, 4)`, or not finite.
    """
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or c2w.shape[0] == 0:
        raise TrajectoryError(f"A camera path must be (T, 4, 4) with T >= 1, received {tuple(c2w.shape)!r}.")
    if not bool(torch.isfinite(c2w).all()):
        raise TrajectoryError("A camera path must be finite, received NaN or infinite values.")
    c2w = c2w.double()
    inverse = torch.eye(4, dtype=torch.float64, device=c2w.device)
    inverse[:3, :3] = c2w[0, :3, :3].T
    inverse[:3, 3] = -c2w[0, :3, :3].T @ c2w[0, :3, 3]
    return inverse @ c2w


def rotation_errors(estimate: Tensor, reference: Tensor) -> Tensor:
    """Geodesic angle between orientations, frame by frame.

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape.

    Returns:
        `(T,)` radians in [0, pi]; frame 0 is 0.

    Raises:
        TrajectoryError: The paths are malformed or of different lengths.
    """
    first, second = _pair(estimate, reference)
    return rotation_angle(first[:, :3, :3].transpose(1, 2) @ second[:, :3, :3])


def fit_scale(estimate: Tensor, reference: Tensor) -> float:
    """The factor >= 0 that brings the estimate's camera centres closest to the reference's, both seen from frame 0.

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape.

    Returns:
        The least-squares factor; 0 for paths that lead opposite ways, 1 where the estimate does not move.

    Raises:
        TrajectoryError: The paths are malformed or of different lengths.
    """
    first, second = _pair(estimate, reference)
    energy = float(first[:, :3, 3].square().sum())
    if energy <= REST**2 * max(1.0, float(second[:, :3, 3].square().sum())):
        return 1.0
    return max(0.0, float((first[:, :3, 3] * second[:, :3, 3]).sum()) / energy)


def camera_errors(estimate: Tensor, reference: Tensor, *, translation: Literal["rel", "abs"] = "rel") -> CameraErrors:
    """RotErr, TransErr and CamMC (as CameraCtrl and its successors define them).

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape.
        translation: `"rel"` divides each path by its own largest distance from frame 0, so that the unit cancels;
            `"abs"` divides both by the reference's, so that travelling too far or too little counts. A path that does
            not move is left as it is.

    Raises:
        TrajectoryError: The paths are malformed or of different lengths, or `translation` is unknown.

    Example:
        >>> path = torch.eye(4).repeat(3, 1, 1)
        >>> path[:, 2, 3] = torch.tensor([0.0, 1.0, 2.0])
        >>> camera_errors(path, path).motion
        0.0
    """
    if translation not in ("rel", "abs"):
        raise TrajectoryError(f"translation must be 'rel' or 'abs', received {translation!r}.")
    first, second = _pair(estimate, reference)
    first, second = first.clone(), second.clone()
    extent = _extent(second)
    own = _extent(first) if translation == "rel" else extent
    first[:, :3, 3] /= own
    second[:, :3, 3] /= extent
    difference = (first - second)[:, :3]
    return CameraErrors(
        rotation=float(rotation_errors(first, second).sum()),
        translation=float(difference[:, :, 3].norm(dim=-1).sum()),
        motion=float(difference.flatten(1).norm(dim=-1).sum()),
        num_frames=first.shape[0],
    )


def absolute_trajectory_error(
    estimate: Tensor, reference: Tensor, *, alignment: Literal["anchored", "umeyama", "none"] = "anchored"
) -> float:
    """ATE: root mean square distance between camera centres after alignment (Sturm et al., 2012).

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape; its unit is the result's.
        alignment: `"anchored"` fits a scale and keeps frame 0 in place; `"umeyama"` fits a similarity to the camera
            centres, and falls back to `"anchored"` where they lie on a line or at one point; `"none"` only makes both
            relative to frame 0.

    Raises:
        TrajectoryError: The paths are malformed or of different lengths, or `alignment` is unknown.
    """
    if alignment not in ("anchored", "umeyama", "none"):
        raise TrajectoryError(f"alignment must be 'anchored', 'umeyama' or 'none', received {alignment!r}.")
    first, second = _pair(estimate, reference)
    source, goal = first[:, :3, 3], second[:, :3, 3]
    if alignment == "umeyama" and _spans_a_plane(source) and _spans_a_plane(goal):
        source = _similar(source, goal)
    elif alignment != "none":
        source = fit_scale(first, second) * source
    return float((source - goal).square().sum(-1).mean().sqrt())


def relative_pose_error(estimate: Tensor, reference: Tensor, *, stride: int = 1) -> tuple[float, float]:
    """RPE over `stride` frames after the anchored scale: drift and shake, whatever the accumulated error.

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        reference: The same shape; its unit is the result's.
        stride: Frames between the two poses that are compared, in [1, T - 1].

    Returns:
        Root mean square translation error, and mean rotation error in radians.

    Raises:
        TrajectoryError: The paths are malformed or of different lengths, or too short for the stride.
    """
    first, second = _pair(estimate, reference)
    if not 1 <= stride < first.shape[0]:
        raise TrajectoryError(f"stride must lie in [1, {first.shape[0] - 1}], received {stride!r}.")
    first = first.clone()
    first[:, :3, 3] *= fit_scale(first, second)
    moved, expected = steps(first, stride), steps(second, stride)
    shift = (moved[:, :3, 3] - expected[:, :3, 3]).square().sum(-1).mean().sqrt()
    turn = rotation_angle(moved[:, :3, :3].transpose(1, 2) @ expected[:, :3, :3]).mean()
    return float(shift), float(turn)


@dataclass(frozen=True, slots=True)
class FailureRate:
    """Failures of an estimator to give a path. Errors cover the other clips alone, so that both must be read together.

    Attributes:
        num_clips: Clips that were tried, at least one.
        reasons: Reason -> how many clips it kept from having a path, the most frequent first.
    """

    num_clips: int
    reasons: Mapping[str, int]

    @property
    def count(self) -> int:
        """Clips without a path."""
        return sum(self.reasons.values())

    @property
    def rate(self) -> float:
        """Share of the clips without a path, in [0, 1]."""
        return self.count / self.num_clips


def failure_rate(outcomes: Sequence[str | Exception | None]) -> FailureRate:
    """Count the clips for which an estimator gave no path, by reason.

    Args:
        outcomes: One entry per clip: `None` where there is a path, else the reason or the exception that was raised.
            Digits in reasons become `#` and a leading `name: ` is dropped, so that equal reasons of different clips
            count as one.

    Raises:
        TrajectoryError: There is no clip.

    Example:
        >>> found = failure_rate([None, "a: 2 of 9 frames", "b: 3 of 9 frames", None])
        >>> found.rate, dict(found.reasons)
        (0.5, {'# of # frames': 2})
    """
    if not outcomes:
        raise TrajectoryError("A failure rate needs at least one clip, received none.")
    reasons = Counter(_kind_of_reason(str(outcome)) for outcome in outcomes if outcome is not None)
    return FailureRate(len(outcomes), dict(reasons.most_common()))


def _kind_of_reason(reason: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", re.sub(r"^[^:.]*: ", "", " ".join(reason.split())))


def steps(c2w: Tensor, stride: int = 1) -> Tensor:
    """`(T - stride, 4, 4)` motion of the camera over `stride` frames, in its own axes at the start of each."""
    start, end = c2w[:-stride], c2w[stride:]
    rotation = start[:, :3, :3].transpose(1, 2)
    motion = torch.zeros_like(start)
    motion[:, :3, :3] = rotation @ end[:, :3, :3]
    motion[:, :3, 3] = (rotation @ (end[:, :3, 3] - start[:, :3, 3])[..., None])[..., 0]
    motion[:, 3, 3] = 1
    return motion


def _pair(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    first, second = relative_to_first(estimate), relative_to_first(reference)
    if first.shape != second.shape:
        raise TrajectoryError(
            f"Paths to compare must have equally many poses, received {first.shape[0]} and {second.shape[0]}. "
            "Resample one of them."
        )
    return first, second


def _extent(c2w: Tensor) -> float:
    """Largest distance from frame 0; 1 for a camera that stays."""
    extent = float(c2w[:, :3, 3].norm(dim=-1).max())
    return extent if extent > REST else 1.0


def _similar(source: Tensor, goal: Tensor) -> Tensor:
    """Points `(T, 3)` moved by the similarity that brings them closest to others (Umeyama, 1991)."""
    centred, target = source - source.mean(0), goal - goal.mean(0)
    moment = target.T @ centred
    rotation = nearest_rotation(moment)
    scale = (rotation * moment).sum() / centred.square().sum()
    return scale * centred @ rotation.T + goal.mean(0)


def _spans_a_plane(points: Tensor) -> bool:
    """Return True if points spread in a second direction, without which a rotation about the first is arbitrary."""
    if points.shape[0] < 3:
        return False
    spread = torch.linalg.svdvals(points - points.mean(0))
    return bool(spread[1] > 1e-3 * spread[0]) and not math.isclose(float(spread[0]), 0.0, abs_tol=REST)
