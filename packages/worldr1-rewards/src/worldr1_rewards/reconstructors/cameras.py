"""Camera motion of a clip: coarse search, joint refinement, and the choice between resting, turning and moving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.bundle_adjustment import PointAligner, bundle_adjust, search_depth
from worldr1_rewards.reconstructors.coarse import Candidates
from worldr1_rewards.reconstructors.motion import MotionEvidence, compare_motions
from worldr1_rewards.reconstructors.points import Points, choose_points
from worldr1_rewards.reconstructors.pyramid import Level, blur, halvings, luma, with_gradients
from worldr1_rewards.reconstructors.rigid import retract, rotation_log
from worldr1_rewards.reconstructors.starts import find_starts
from worldr1_rewards.reconstructors.turn_or_shift import turning_at_rest, turning_less

FINE_SIDE = 24
"""Least shorter side in pixels of a level on which single points are followed."""
SMOOTHING = 0.7
"""Blur in pixels of every level, so that bilinear interpolation does not matter."""
NUM_SEARCH_FRAMES = 9
NUM_HOSTS = 4
NUM_DEPTHS = 24
NUM_SEARCH_TARGETS = 8
POINTS_PER_HOST = (500, 300, 120)
"""Points on the finest level, the next, and all coarser ones."""
START_ITERATIONS = (6, 4)
TURN_ITERATIONS = (4,)
ITERATIONS = ((6, 4), (6, 6), (6,))
"""Evaluations between calibrations on the same levels."""
FACING_ITERATIONS = (4, 3)
NO_ROTATION_COST_RATIO = 1.03
"""Ratio of costs up to which a camera that does not turn is believed."""
SIMPLER = 1.1
"""Ratio of costs up to which a simpler kind of motion is believed when cameras of different origin compete."""
MAX_RIVALS = 2
KEEP_COST_RATIO = 1.3
"""Starts that go on to the next level: how many, and with how much of the best one's cost."""

Rival = tuple[Tensor, tuple[float, float]]
"""Poses `(K, 4, 4)` of the known frames, and a range of inverse depth."""


@dataclass(frozen=True, slots=True)
class Cameras:
    """Cameras estimated from a clip.

    Attributes:
        poses: `(T, 4, 4)` float64 world-to-camera, frame 0 = identity; translations in an arbitrary unit.
        evidence: Which kind of motion it is, and how the kinds compare.
        points: Pixels that were followed.
        rho: `(H, N)` inverse depth of the points in their hosts; 1 where the camera does not move.
        confidence: `(H, N)` curvature of the cost along each inverse depth.
        diagnostics: Plain numbers.
    """

    poses: Tensor
    evidence: MotionEvidence
    points: Points
    rho: Tensor
    confidence: Tensor
    diagnostics: dict[str, Any] = field(default_factory=dict)


def spread_indices(num_frames: int, count: int) -> list[int]:
    """`count` frames spread evenly from the first to the last, without repeats."""
    return sorted({round(value) for value in torch.linspace(0, num_frames - 1, min(count, num_frames)).tolist()})


def grey_levels(frames: Tensor, intrinsics: Tensor) -> list[Level]:
    """Grey levels with gradients, full size first."""
    sizes = halvings(luma(frames), intrinsics, FINE_SIDE)
    return [with_gradients(blur(images, SMOOTHING), matrix) for images, matrix in sizes]


def interpolate_poses(poses: Tensor, known: list[int], num_frames: int) -> Tensor:
    """Poses of all frames by constant twist between the known ones.

    Args:
        poses: `(K, 4, 4)` world-to-camera of the known frames.
        known: Their increasing indices; the first is 0, the last `num_frames - 1`.
        num_frames: T.
    """
    result = []
    for t in range(num_frames):
        right = next(index for index, frame in enumerate(known) if frame >= t)
        left = max(right - 1, 0)
        share = (t - known[left]) / max(known[right] - known[left], 1)
        step = poses[right] @ invert_pose(poses[left])
        result.append(retract(share * torch.cat([step[:3, 3], rotation_log(step[:3, :3])])) @ poses[left])
    return torch.stack(result)


def estimate_cameras(frames: Tensor, intrinsics: Tensor) -> Cameras:
    """Estimate the cameras of a clip from its frames alone.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1], T >= 3.
        intrinsics: `(3, 3)` in pixels of `frames`.
    """
    num_frames = frames.shape[0]
    known = spread_indices(num_frames, NUM_SEARCH_FRAMES)
    starts = find_starts(frames[known], intrinsics)
    levels = grey_levels(frames, intrinsics)
    chosen, bounds = _best_start(levels, known, starts.moving)
    moving = interpolate_poses(chosen, known, num_frames)
    turning = interpolate_poses(starts.turning.poses[0].double(), known, num_frames)
    cameras = refine_cameras(levels, moving, bounds, turning, first_level=len(levels) - 1, try_straight=True)
    cameras.diagnostics["start_cost"] = float(starts.moving.cost[0])
    return cameras


def refine_cameras(
    levels: list[Level],
    moving: Tensor,
    bounds: tuple[float, float],
    turning: Tensor,
    *,
    first_level: int,
    try_straight: bool,
) -> Cameras:
    """Refine two hypotheses photometrically, from coarse to fine, and choose between resting, turning and moving.

    Args:
        levels: Grey levels, full size first.
        moving: `(T, 4, 4)` float64 world-to-camera poses of a camera that moves.
        bounds: Range of inverse depth that goes with them.
        turning: `(T, 4, 4)` float64 poses of a camera that only rotates.
        first_level: Index of the coarsest level, where refinement begins.
        try_straight: Whether a camera without any turn is tried, as is right after a search that may imitate a shift by
            a turn.
    """
    aligner, rho, facing = None, None, False
    for index in range(first_level, -1, -1):
        rank = min(index, len(POINTS_PER_HOST) - 1)
        aligner = _aligner(levels, index, POINTS_PER_HOST[rank])
        moving, rho, facing = _move_simply(
            aligner, moving, bounds, ITERATIONS[rank], facing, ask=try_straight and index == 1
        )
        if not (index < 2 and compare_motions(aligner, moving, rho, turning).obvious):
            turning = _turn(aligner, turning, TURN_ITERATIONS)
        bounds = _range(rho)
    assert aligner is not None
    assert rho is not None
    evidence = compare_motions(aligner, moving, rho, turning)
    if evidence.kind != "moving":
        moving, rho = (
            (turning if evidence.kind == "turning" else torch.eye(4).to(turning).expand_as(turning)),
            torch.ones_like(rho),
        )
    poses = moving @ invert_pose(moving[:1])
    confidence = aligner.evaluate(poses, rho).depth_depth
    return Cameras(poses, evidence, aligner.points, rho, confidence, {"noise": aligner.noise})


def best_explained(levels: list[Level], rivals: list[Cameras]) -> int:
    """Index of the cameras that explain a clip best, in one common calibration of noise.

    Of cameras of different kinds the simpler one is believed unless the richer is clearly better.

    Args:
        levels: Grey levels that all rivals were refined on, full size first.
        rivals: Cameras with the same points.
    """
    aligner = _aligner(levels, 0, POINTS_PER_HOST[0])
    sharpest = min(rivals, key=lambda rival: float(rival.diagnostics["noise"]))
    aligner.calibrate(sharpest.poses, sharpest.rho)
    weights = {"resting": 1.0, "turning": SIMPLER, "moving": SIMPLER**2}
    costs = [weights[rival.evidence.kind] * float(aligner.evaluate(rival.poses, rival.rho).cost) for rival in rivals]
    return costs.index(min(costs))


def _best_start(levels: list[Level], known: list[int], candidates: Candidates) -> tuple[Tensor, tuple[float, float]]:
    """Follow points from every candidate at the two coarsest levels and keep what explains them best.

    Returns:
        Poses `(K, 4, 4)` of the known frames, and a range of inverse depth.
    """
    hosts = spread_indices(len(known), NUM_HOSTS)
    points = choose_points(levels[0].images[known], hosts, POINTS_PER_HOST[-1])
    bounds = [(0.5 * float(grid.min()), 1.4 * float(grid.max())) for grid in candidates.grid]
    rivals = list(zip(candidates.poses.double(), bounds, strict=True))
    for index in range(len(levels) - 1, max(len(levels) - 3, -1), -1):
        aligner = PointAligner(levels[index].select(known), points, 0.5**index)
        rivals = _compete(aligner, rivals)
        if len(rivals) == 1:
            break
    return rivals[0]


def _compete(aligner: PointAligner, rivals: list[Rival]) -> list[Rival]:
    """Refine rivals and keep those that explain the points nearly as well as the best, best first.

    Costs are compared in the calibration of the rival with the least noise: each one's own would forgive its errors.
    """
    results = []
    for poses, bounds in rivals:
        moved, rho = _move(aligner, poses, bounds, START_ITERATIONS)
        results.append((aligner.noise, moved, rho))
    _, poses, rho = min(results, key=lambda result: result[0])
    aligner.calibrate(poses, rho)
    costs = [float(aligner.evaluate(poses, rho).cost) for _, poses, rho in results]
    order = sorted(range(len(costs)), key=costs.__getitem__)[:MAX_RIVALS]
    return [(results[i][1], _range(results[i][2])) for i in order if costs[i] < KEEP_COST_RATIO * costs[order[0]]]


def _move_simply(
    aligner: PointAligner,
    poses: Tensor,
    bounds: tuple[float, float],
    rounds: tuple[int, ...],
    facing: bool,
    *,
    ask: bool,
) -> tuple[Tensor, Tensor, bool]:
    """Refine a moving camera, without any turn where the clip is explained as well without.

    On a camera that moves ahead, or past plain walls, a slow turn imitates a slow drift to the side. Both are then
    within the noise, and the simpler camera is believed.

    Args:
        aligner: The cost at one level.
        poses: `(T, 4, 4)` where to start.
        bounds: Of inverse depth.
        rounds: Iterations between calibrations.
        facing: Whether `poses` do not turn.
        ask: Whether a camera that turns is tried without its turn; once is enough, at half size.

    Returns:
        Poses, inverse depths, and whether the camera keeps facing one way.
    """
    if not (facing or ask):
        return *_move(aligner, poses, bounds, rounds), False
    if facing:
        straight, straight_rho = _move(aligner, poses, bounds, FACING_ITERATIONS, turn=False)
        aligner.calibrate(straight, straight_rho)
        free = bundle_adjust(aligner, straight, straight_rho, num_iterations=FACING_ITERATIONS[-1])
        moving, rho = free.poses, free.rho
    else:
        moving, rho = _in_sequence(aligner, *_move(aligner, poses, bounds, rounds), bounds, rounds)
        facing_poses = turning_less(moving @ invert_pose(moving[:1]), 0.0, 1 / float(rho.median()))
        straight, straight_rho = _move(aligner, facing_poses, bounds, rounds, turn=False)
    aligner.calibrate(straight, straight_rho)
    simple = float(aligner.evaluate(straight, straight_rho).cost)
    if simple < NO_ROTATION_COST_RATIO * float(aligner.evaluate(moving, rho).cost):
        return straight, straight_rho, True
    return moving, rho, False


def _in_sequence(
    aligner: PointAligner, poses: Tensor, rho: Tensor, bounds: tuple[float, float], rounds: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The camera that turns only while it does not travel, refined, if it explains the clip better; else the given."""
    rival = turning_at_rest(poses, 1 / float(rho.median()))
    if rival is None:
        return poses, rho
    moved, moved_rho = _move(aligner, rival, bounds, rounds)
    aligner.calibrate(moved, moved_rho)
    better = float(aligner.evaluate(moved, moved_rho).cost) < float(aligner.evaluate(poses, rho).cost)
    return (moved, moved_rho) if better else (poses, rho)


def straightened(levels: list[Level], poses: Tensor, bounds: tuple[float, float]) -> Tensor | None:
    """Poses of a camera that does not turn, if they explain a clip as well as the given ones, else `None`.

    Args:
        levels: Grey levels, full size first.
        poses: `(T, 4, 4)` float64 world-to-camera of a camera that moves.
        bounds: Range of inverse depth that goes with them.
    """
    index = min(1, len(levels) - 1)
    aligner = _aligner(levels, index, POINTS_PER_HOST[index])
    straight, _, facing = _move_simply(aligner, poses, bounds, ITERATIONS[index], False, ask=True)
    return straight if facing else None


def _range(rho: Tensor) -> tuple[float, float]:
    """Bounds of inverse depth to search next."""
    low, high = rho.flatten().quantile(rho.new_tensor([0.03, 0.97])).tolist()
    return 0.7 * low, 1.3 * high


def _aligner(levels: list[Level], index: int, num_points: int) -> PointAligner:
    hosts = spread_indices(levels[0].images.shape[0], NUM_HOSTS)
    points = choose_points(levels[0].images, hosts, num_points)
    return PointAligner(levels[index], points, 0.5**index)


def _turn(aligner: PointAligner, poses: Tensor, rounds: tuple[int, ...]) -> Tensor:
    rho = torch.ones_like(aligner.points.weight)
    for num_iterations in rounds:
        aligner.calibrate(poses, rho)
        poses = bundle_adjust(
            aligner, poses, rho, num_iterations=num_iterations, translate=False, free_depth=False
        ).poses
    return poses


def _move(
    aligner: PointAligner, poses: Tensor, bounds: tuple[float, float], rounds: tuple[int, ...], *, turn: bool = True
) -> tuple[Tensor, Tensor]:
    candidates = torch.linspace(*bounds, NUM_DEPTHS).to(aligner.points.weight)
    rho = search_depth(aligner, poses, candidates, spread_indices(poses.shape[0], NUM_SEARCH_TARGETS))
    for num_iterations in rounds:
        aligner.calibrate(poses, rho)
        estimate = bundle_adjust(aligner, poses, rho, num_iterations=num_iterations, turn=turn)
        poses, rho = estimate.poses, estimate.rho
    return poses, rho
