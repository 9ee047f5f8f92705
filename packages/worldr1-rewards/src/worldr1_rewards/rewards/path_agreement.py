"""Agreement of a camera path with another, as a product of factors: S = exp(-errors) x travelled x turned.

Everything is relative to frame 0, which anchors both paths; no rotation is fitted, and a scale only where the units
are unknown. Directions are compared by angle (1 - cosine), so that small errors cost little and opposite ways cost 2.
How far the camera got is a separate factor: a scale-free comparison alone would pay half the way like the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_core.camera.geometry import rotation_vector
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import detect_moves
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, TrajectoryError
from worldr1_rewards.camera_metrics import relative_to_first, steps

STEP_SHARE = 8
"""Motion is also compared over an eighth of the clip, whatever its frame rate: that is where shake shows."""
OVERSHOOT_WEIGHT = 0.25
"""Cost of a degree beyond the commanded angle relative to a degree short of it, up to half the angle beyond."""
ROOM = 0.3
"""Commanded travel, in scene depths, at which the share of it that earns about a half has fallen to a half."""
NOTHING = 0.01
"""Factor for no achieved motion: not 0, so that the errors still order clips that move the wrong way."""
MIN_TRAVEL = 1e-3
"""Commanded travel, in scene depths, that counts as a translation at all."""
ROUNDING = 1e-6
"""Travel that counts as none where the unit is unknown."""
MIN_TURN = 0.5
"""Commanded angle in degrees that counts as a rotation at all."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Units of error; an error of one unit multiplies the score by exp(-1).

    Attributes:
        direction: Of 1 - cosine between travelled and commanded directions.
        rotation: Of the geodesic angle, degrees.
        drift: Of translation that was not commanded, in scene depths.
        travel: Share of the commanded travel that earns about half; see `travel_half`.
        turn: Share of the commanded angle that earns about half.
    """

    direction: float = 0.25
    rotation: float = 4.0
    drift: float = 0.1
    travel: float = 0.6
    turn: float = 0.35


@dataclass(frozen=True, slots=True)
class PathAgreement:
    """The parts of a comparison.

    Attributes:
        direction_error: 1 - cosine of the paths, averaged over positions and over steps, in [0, 2]; `None` where no
            translation is commanded.
        rotation_error: Degrees, the mean of the averages over frames and over steps.
        drift: Largest uncommanded travel in scene depths; 0 where a translation is commanded.
        travel: Share of the commanded travel, `None` where none is commanded or the units are unknown.
        turn: Share of the commanded angle, `None` where none is commanded.
        travelled: Factor of the travel, in [0, 1].
        turned: Factor of the turn, in [0, 1].
        score: In [0, 1]; 1 for the commanded path itself.
    """

    direction_error: float | None
    rotation_error: float
    drift: float
    travel: float | None
    turn: float | None
    travelled: float
    turned: float
    score: float


def require_target(clip: Clip) -> CameraTrajectory:
    """The path that a clip was to follow.

    Raises:
        ScoreNotApplicable: No path is commanded.
    """
    if clip.target is not None:
        return clip.target
    if words := [str(move) for move in detect_moves(clip.prompt)]:
        raise ScoreNotApplicable(
            f"no camera path is commanded: the clip was made with target=None, which overrides the words {words} of "
            "its prompt"
        )
    raise ScoreNotApplicable("no camera move is commanded: the prompt has no camera word and no path is given")


def check_pose_count(target: CameraTrajectory, num_frames: int) -> None:
    """Check that a commanded path has one pose per frame.

    Raises:
        TrajectoryError: It has another number.
    """
    if target.num_frames != num_frames:
        raise TrajectoryError(
            f"The commanded path has {target.num_frames} poses, but the clip has {num_frames} frames. "
            "Give one pose per frame, or resample the path."
        )


def translates(target: CameraTrajectory) -> bool:
    """Return True if a path commands a translation of the camera."""
    least = ROUNDING if target.scene_depth is None else MIN_TRAVEL * target.scene_depth
    return target.extent > least


def compare_paths(
    estimate: CameraTrajectory,
    target: CameraTrajectory,
    tolerances: Tolerances,
    *,
    has_parallax: bool = True,
) -> PathAgreement:
    """Compare an estimated path with the commanded one.

    Args:
        estimate: T poses; its `scene_depth` (if known) makes lengths comparable.
        target: T poses and its `scene_depth`.
        tolerances: Units of error.
        has_parallax: False where the estimate's translation means nothing; the camera then counts as having stayed.
    """
    found, wanted = relative_to_first(estimate.c2w), relative_to_first(target.c2w)
    places, goals = found[:, :3, 3], wanted[:, :3, 3]
    if not has_parallax:
        places = torch.zeros_like(places)
    stride = max(1, round((len(goals) - 1) / STEP_SHARE))
    rotation_error = _rotation_error(found, wanted, stride)
    turn = _turn_share(found, wanted)
    turned = 1.0 if turn is None else achieved(turn, tolerances.turn)
    exponent = rotation_error / tolerances.rotation
    unit = _unit_ratio(estimate, target)
    if translates(target):
        direction = _direction_error(places, goals, stride)
        travel = None if unit is None else unit * float((places * goals).sum() / goals.square().sum())
        if travel is None:
            travelled = achieved(float(bool(places.abs().max() > 0)), tolerances.travel)
        else:
            travelled = achieved(travel, travel_half(target, tolerances.travel))
        exponent += direction / tolerances.direction
        score = math.exp(-exponent) * travelled * turned
        return PathAgreement(direction, rotation_error, 0.0, travel, turn, travelled, turned, score)
    drift = _drift(places, estimate.scene_depth)
    exponent += drift / tolerances.drift
    return PathAgreement(None, rotation_error, drift, None, turn, 1.0, turned, math.exp(-exponent) * turned)


def achieved(share: float, half: float) -> float:
    """A factor that grows smoothly with the achieved share of a command and is 1 from the whole of it on.

    Args:
        share: Achieved over commanded amount; negative for the opposite way.
        half: Share that earns about a half.

    Example:
        >>> [round(achieved(s, 0.35), 2) for s in (-1.0, 0.0, 0.35, 1.0, 2.0)]
        [0.01, 0.01, 0.57, 1.0, 1.0]
    """
    positive = max(0.0, share)
    grown = (1 + half**2) * positive**2 / (positive**2 + half**2)
    return min(1.0, NOTHING + (1 - NOTHING) * grown)


def travel_half(target: CameraTrajectory, share: float) -> float:
    """Share of the commanded travel that earns about a half: `share`, less for long ways.

    The vocabulary measures lengths in scene depths; a camera that is sent 0.6 of the scene's median depth ahead has, in
    most scenes, something in its way before. So the demand grows with the command c as c / (c + ROOM), not as c.
    """
    if target.scene_depth is None:
        return share
    return share * ROOM / (ROOM + target.relative().extent / target.scene_depth)


def _unit_ratio(estimate: CameraTrajectory, target: CameraTrajectory) -> float | None:
    """Factor from the estimate's to the target's unit of length, if both know the scene's depth."""
    if estimate.scene_depth is None or target.scene_depth is None:
        return None
    return target.scene_depth / estimate.scene_depth


def _direction_error(places: Tensor, goals: Tensor, stride: int) -> float:
    along = _one_minus_cosine(places, goals)
    stepwise = _one_minus_cosine(places[stride:] - places[:-stride], goals[stride:] - goals[:-stride])
    return (along + stepwise) / 2


def _one_minus_cosine(first: Tensor, second: Tensor) -> float:
    """1 - cosine of two stacks of vectors taken as one long vector each; 1 where either is zero."""
    norm = float(first.norm()) * float(second.norm())
    return 1.0 if norm == 0 else max(0.0, 1 - float((first * second).sum()) / norm)


def _rotation_error(found: Tensor, wanted: Tensor, stride: int) -> float:
    """Degrees; turning somewhat further in the commanded sense costs less than any other error."""
    errors = [_eased_angle(found, wanted)]
    if len(wanted) > stride:
        errors.append(_eased_angle(steps(found, stride), steps(wanted, stride)))
    return math.degrees(sum(float(error.mean()) for error in errors) / len(errors))


def _eased_angle(found: Tensor, wanted: Tensor) -> Tensor:
    """Geodesic angle of every pose in radians, with overshoot about the commanded axis discounted."""
    wanted_vector = rotation_vector(wanted[:, :3, :3])
    error = rotation_vector(wanted[:, :3, :3].transpose(1, 2) @ found[:, :3, :3])
    commanded = wanted_vector.norm(dim=-1)
    axis = wanted_vector / commanded.clamp(min=1e-9)[:, None]
    along = (error * axis).sum(-1)
    beyond = along.clamp(min=0).minimum(commanded / 2)
    eased = along - (1 - OVERSHOOT_WEIGHT) * beyond
    across = (error - along[:, None] * axis).square().sum(-1)
    return (across + eased.square()).sqrt()


def _turn_share(found: Tensor, wanted: Tensor) -> float | None:
    """Achieved over commanded rotation, by least squares over the frames' rotation vectors."""
    goal = rotation_vector(wanted[:, :3, :3])
    if math.degrees(float(goal.norm(dim=-1).max())) < MIN_TURN:
        return None
    return float((rotation_vector(found[:, :3, :3]) * goal).sum() / goal.square().sum())


def _drift(places: Tensor, scene_depth: float | None) -> float:
    """Largest distance from the first place, in scene depths; a whole depth where the unit is unknown."""
    extent = float(places.norm(dim=-1).max())
    if scene_depth is None:
        return float(extent > ROUNDING)
    return extent / scene_depth
