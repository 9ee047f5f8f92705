"""Agreement of a camera path with camera words, where the words alone command it.

A word such as `pan right` names a kind of motion and a direction, no amount and no timing. So kind and direction decide
here, and the vocabulary's amount is only a typical one. Every segment is judged by four factors that multiply:

* direction: the camera travels or turns the commanded way, steadily;
* amount: it does so enough to be noticed, in proportion to the typical amount;
* dominance: motion that is not commanded stays small against what is;
* smoothness: the camera does not shake.

Angles are in radians and lengths in scene depths unless a name says otherwise: at the typical depth of the scene, equal
numbers of both shift the picture equally far, which makes travel and turn comparable.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_core.camera.geometry import pose, rotation_vector
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import DEFAULT_CONSTANTS, Move
from worldr1_core.errors import TrajectoryError
from worldr1_rewards.camera_metrics import relative_to_first, steps
from worldr1_rewards.rewards.path_agreement import ROUNDING, Tolerances, achieved, compare_paths

NUM_STEPS = 8
"""Steadiness is judged over eighths of a segment, as in `path_agreement`."""
UNSTEADINESS = 0.3
"""Share of the way lost to detours that multiplies the score by 1/e; much smaller shares cost next to nothing."""
TRAVEL_HALF = 0.15
"""Share of the typical travel that earns about half."""
TURN_HALF = 0.3
"""Share of the typical angle that earns about half."""
FREE_TURN = 5.0
"""Radians of turn per scene depth of travel that halve the score of a push or pull."""
WITH_TURN, AGAINST_TURN = 0.7, 2.0
"""Weights of travel beside a pan. A hand-held camera swings about the body, so that it travels the way it turns;
travel the other way holds a subject in view, which is an orbit."""
ORBIT_RADII = (0.3, 1.5)
"""Distances of an orbit's centre, in scene depths, that are all the same to the word."""
ORBIT_RADIUS_SCALE = 0.5
"""Difference in log radius beyond them that multiplies the score by 1/e."""
SHAKE = 3.0
"""Shake in degrees that multiplies the score by 1/e; real cameras, smooth to the eye, are estimated with up to 1."""
JOINT_SHIFTS = (-0.3, -0.15, 0.0, 0.15, 0.3)
"""Offsets from the even split at which the boundary of two moves is searched, in shares of an even segment."""
MAX_DEGREE = 5
"""Degree of the polynomial in time that a smooth camera path follows."""
UNKNOWN_EXTENT = 0.6
"""Scene depths that a path counts as travelling where its unit is unknown: as far as a typical push."""

DOWN = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
RIGHT = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
AHEAD = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class WordAgreement:
    """Factors in [0, 1], each the geometric mean over the segments.

    Attributes:
        direction: Of travelling or turning steadily the commanded way.
        amount: Of going far enough to be noticed.
        dominance: Of the commanded motion over other motion.
        smoothness: Of shake.
    """

    direction: float
    amount: float
    dominance: float
    smoothness: float

    @property
    def score(self) -> float:
        """The product, in [0, 1]."""
        return self.direction * self.amount * self.dominance * self.smoothness


def compare_with_words(
    estimate: CameraTrajectory, moves: Sequence[Move], tolerances: Tolerances, *, has_parallax: bool = True
) -> WordAgreement:
    """Judge an estimated path by the camera words it was to follow, in order.

    The moves share the clip about evenly: each joint is tried at a few frames around the even split, and the best
    division counts. Each segment is judged relative to its own first pose.

    Args:
        estimate: T poses and `scene_depth`. Where that is unknown, any travel counts as far enough.
        moves: At least one, at most T - 1.
        tolerances: Units of error: `direction` for every word, `rotation` and `drift` for `fixed`.
        has_parallax: False where the estimate's translation means nothing; the camera then counts as having stayed.

    Raises:
        TrajectoryError: There are no moves, or too few frames for them.
    """
    last = estimate.num_frames - 1
    if not 1 <= len(moves) <= last:
        raise TrajectoryError(
            f"{len(moves)} camera move(s) cannot be distinguished in {last + 1} frame(s). Give at least one move and "
            "a frame more than moves."
        )
    c2w = _in_scene_depths(estimate, has_parallax)

    @functools.cache
    def segment(index: int, start: int, end: int) -> WordAgreement:
        return _judge(moves[index], _measure(c2w[start : end + 1]), tolerances)

    joints = [_joint_frames(index, len(moves), last) for index in range(1, len(moves))]
    best = _best_division(segment, [*joints, [last]])
    names = ("direction", "amount", "dominance", "smoothness")
    return WordAgreement(*(_geometric_mean([getattr(part, name) for part in best]) for name in names))


def _in_scene_depths(estimate: CameraTrajectory, has_parallax: bool) -> Tensor:
    """Poses `(T, 4, 4)` relative to frame 0, lengths in scene depths."""
    c2w = relative_to_first(estimate.c2w)
    unit = estimate.scene_depth
    if unit is None:
        extent = estimate.extent
        unit = extent / UNKNOWN_EXTENT if extent > ROUNDING else math.inf
    return pose(c2w[:, :3, :3], c2w[:, :3, 3] / (unit if has_parallax else math.inf))


def _joint_frames(index: int, num_moves: int, last: int) -> list[int]:
    """Frames tried for the joint before move `index`; every move keeps at least one step."""
    tried = {round((index + shift) / num_moves * last) for shift in JOINT_SHIFTS}
    return sorted({min(max(frame, index), last - (num_moves - index)) for frame in tried})


def _best_division(
    segment: Callable[[int, int, int], WordAgreement], ends: Sequence[Sequence[int]]
) -> list[WordAgreement]:
    """The segments of the division with the largest product, found from the first move on."""
    best: dict[int, tuple[float, list[WordAgreement]]] = {0: (1.0, [])}
    for index, frames in enumerate(ends):
        reached = {}
        for end in frames:
            options = []
            for start, (value, parts) in best.items():
                if start < end:
                    part = segment(index, start, end)
                    options.append((value * part.score, [*parts, part]))
            if options:
                reached[end] = max(options, key=lambda option: option[0])
        best = reached
    ((_, parts),) = best.values()
    return parts


def _geometric_mean(values: Sequence[float]) -> float:
    return math.prod(values) ** (1 / len(values))


@dataclass(frozen=True, slots=True)
class _Motion:
    """One segment, seen from its first pose.

    Attributes:
        c2w: `(N, 4, 4)`.
        world: `(N, 3)` camera centres in the axes of the first pose.
        local: `(N, 3)` sums of the steps so far, each in the camera's own axes: straight for a camera that goes where
            it looks, whichever way it turns.
        turned: `(N, 3)` sums of the steps' rotation vectors; y is the turn to the right.
        angle: Largest angle between the orientation and the first.
    """

    c2w: Tensor
    world: Tensor
    local: Tensor
    turned: Tensor
    angle: float


def _measure(c2w: Tensor) -> _Motion:
    c2w = relative_to_first(c2w)
    moved = steps(c2w)
    local, turned = (
        torch.cat([torch.zeros(1, 3, dtype=torch.float64), step.cumsum(0)])
        for step in (moved[:, :3, 3], rotation_vector(moved[:, :3, :3]))
    )
    angle = float(rotation_vector(c2w[:, :3, :3]).norm(dim=-1).max())
    return _Motion(c2w, c2w[:, :3, 3], local, turned, angle)


def _judge(move: Move, motion: _Motion, tolerances: Tolerances) -> WordAgreement:
    """Judge one segment by its word."""
    c = DEFAULT_CONSTANTS
    depth, side = c.scene_depth, -1 if move.value.endswith("left") else 1
    match move:
        case Move.PUSH_IN | Move.PULL_OUT:
            wanted = AHEAD * (c.push / depth if move is Move.PUSH_IN else -c.push / depth)
            direction, amount, travel = _travel(motion, wanted, tolerances)
            dominance = _free_turn(motion.angle, travel)
        case Move.MOVE_LEFT | Move.MOVE_RIGHT:
            direction, amount, travel = _travel(motion, RIGHT * side * c.move / depth, tolerances)
            dominance = _share(travel, motion.angle)
        case Move.PULL_LEFT | Move.PULL_RIGHT:
            wanted = (RIGHT * side * c.pull_move - AHEAD * c.pull_back) / depth
            direction, amount, travel = _travel(motion, wanted, tolerances)
            amount *= _turn_amount(motion, side * c.pull_pan)
            dominance = _free_turn(motion.angle, travel)
        case Move.PAN_LEFT | Move.PAN_RIGHT:
            direction = _course(motion.turned, side * DOWN, tolerances)
            amount = _turn_amount(motion, side * c.pan)
            dominance = _share(max(0.0, side * float(motion.turned[-1, 1])), _beside_pan(motion.local, side))
        case Move.ORBIT_LEFT | Move.ORBIT_RIGHT:
            return _judge_orbit(side, motion, tolerances)
        case Move.FIXED:
            still = CameraTrajectory(torch.eye(4, dtype=torch.float64).expand_as(motion.c2w))
            seen = CameraTrajectory(motion.c2w, scene_depth=1.0)
            return WordAgreement(1.0, 1.0, compare_paths(seen, still, tolerances).score, 1.0)
    return WordAgreement(direction, amount, dominance, _smoothness(motion))


def _judge_orbit(side: int, motion: _Motion, tolerances: Tolerances) -> WordAgreement:
    """Judge sideways travel in the camera's axes with an opposite turn; both together give the centre's distance."""
    c = DEFAULT_CONSTANTS
    direction = _course(motion.local, side * RIGHT, tolerances) * _course(motion.turned, -side * DOWN, tolerances)
    sideways, inward = side * float(motion.local[-1, 0]), -side * float(motion.turned[-1, 1])
    typical = math.radians(c.orbit_arc) * c.orbit_radius / c.scene_depth
    amount = achieved(sideways / typical, TRAVEL_HALF) * _turn_amount(motion, -side * c.orbit_arc)
    if sideways <= 0 or inward <= 0:
        return WordAgreement(direction, amount, 0.0, _smoothness(motion))
    radius = sideways / inward
    nearest = min(max(radius, ORBIT_RADII[0]), ORBIT_RADII[1])
    dominance = math.exp(-((math.log(radius / nearest) / ORBIT_RADIUS_SCALE) ** 2))
    return WordAgreement(direction, amount, dominance, _smoothness(motion))


def _travel(motion: _Motion, wanted: Tensor, tolerances: Tolerances) -> tuple[float, float, float]:
    """Factors of direction and amount of a straight travel, and the distance.

    "Forward" may mean ahead of the first frame, or wherever the camera looks by now: the better reading counts.
    """
    typical = wanted.norm()
    heading = wanted / typical
    tracks = [(_course(track, heading, tolerances), track[-1]) for track in (motion.world, motion.local)]
    direction, end = max(tracks, key=lambda found: found[0])
    return direction, achieved(float(end @ heading / typical), TRAVEL_HALF), float(end.norm())


def _course(track: Tensor, heading: Tensor, tolerances: Tolerances) -> float:
    """Factor of the angle between the end of a track `(N, 3)` and a unit heading, and of detours on the way."""
    num_steps = min(NUM_STEPS, len(track) - 1)
    frames = torch.linspace(0, len(track) - 1, num_steps + 1, dtype=torch.float64).round().long()
    way, total = float(track[frames].diff(dim=0).norm(dim=-1).sum()), float(track[-1].norm())
    if total < ROUNDING:
        return 0.0
    cosine = float(track[-1] @ heading) / total
    detours = 1 - min(1.0, total / way)
    return math.exp(-(1 - cosine) / tolerances.direction - (detours / UNSTEADINESS) ** 2)


def _turn_amount(motion: _Motion, typical_degrees: float) -> float:
    return achieved(math.degrees(float(motion.turned[-1, 1])) / typical_degrees, TURN_HALF)


def _beside_pan(local: Tensor, side: int) -> float:
    """Largest travel beside a pan, weighted by how little it looks like a part of it."""
    weighted = local.clone()
    sideways = side * local[:, 0]
    weighted[:, 0] = torch.where(sideways > 0, WITH_TURN, AGAINST_TURN) * sideways
    return float(weighted.norm(dim=-1).max())


def _free_turn(angle: float, travel: float) -> float:
    """Factor in [0, 1] of a turn that is not commanded: a camera may look around while it goes ahead."""
    return 0.0 if travel < ROUNDING else 1 / (1 + (angle / (FREE_TURN * travel)) ** 2)


def _share(commanded: float, other: float) -> float:
    """The commanded part of motions that look alike, in [0, 1]."""
    return 0.0 if commanded < ROUNDING else commanded / (commanded + other)


def _smoothness(motion: _Motion) -> float:
    """Factor of shake: how far pose and place are, by standard deviation, from a smooth path, as angles in view."""
    shake = math.hypot(_roughness(motion.turned), _roughness(motion.local))
    return math.exp(-((math.degrees(shake) / SHAKE) ** 2))


def _roughness(track: Tensor) -> float:
    """Standard deviation of `(N, 3)` from a polynomial in time; 0 where N is too small to tell."""
    degree = min(MAX_DEGREE, max(2, (len(track) - 1) // 2))
    spare = len(track) - degree - 1
    if spare < 1:
        return 0.0
    time = torch.linspace(-1, 1, len(track), dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.stack([time**power for power in range(degree + 1)], dim=-1))
    residual = track - basis @ (basis.T @ track)
    return math.sqrt(float(residual.square().sum()) / spare)
