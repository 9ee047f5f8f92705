"""Cameras of a clip from sparse features: the focal length where it is unknown, poses, and tracked points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_core.errors import ScoreUnavailable
from worldr1_rewards.reconstructors.cameras import interpolate_poses, spread_indices
from worldr1_rewards.reconstructors.features import (
    FeatureMatches,
    MappedModel,
    chain_rotations,
    focal_from_turn,
    match_features,
    rotation_residual,
)
from worldr1_rewards.reconstructors.focal_prior import DETERMINED, FocalPrior
from worldr1_rewards.reconstructors.sparse_bundle import SparseScene, adjust, residuals, soft_inliers, triangulated
from worldr1_rewards.reconstructors.turn_or_shift import turning_at_rest, turning_less

MAX_KEY_FRAMES = 24
"""Frames in which features are sought; the poses of the others are interpolated and refined photometrically."""
MIN_FRAMES_PLACED = 0.8
"""Share of the key frames that the mapper must place; the few others are interpolated."""
MIN_POINTS = 15
"""Fewest points that every placed frame must observe."""
TURN_PIXELS = 1.0
"""Pixels, at the median of the pair where it is worst, up to which a turn on the spot explains the matches."""
FOCAL_RATIOS = (0.42, 0.55, 0.72, 0.94, 1.23, 1.6)
"""Focal lengths over the width that are tried: the truth is within a seventh of one of them."""
FOCAL_FRAMES = 8
"""About as many frames, evenly spaced, are enough to tell which."""
TURN_SHARES = (0.5, 0.0)
"""Shares of the mapper's turn that are tried beside the whole."""
CLEARLY_BETTER = 1.03
MAX_TRACKS = 400
RIVAL_TRACKS = 150
TRACKS_PER_FRAME = 40


@dataclass(frozen=True, slots=True)
class FocalEstimate:
    """A focal length and where it comes from.

    Attributes:
        pixels: Focal length in pixels.
        source: `"given"`, `"estimated"` (by the clip, within the documented uncertainty) or `"prior"`.
        deviation: Standard deviation of its logarithm; 0 where it is given.
    """

    pixels: float
    source: str
    deviation: float


@dataclass(frozen=True, slots=True)
class FeatureCameras:
    """Cameras of a clip estimated from feature matches.

    Attributes:
        intrinsics: `(3, 3)` float64 in pixels of the frames.
        focal: How its focal length is known.
        key_frames: Frames in which features were sought.
        moving: `(T, 4, 4)` world-to-camera poses of a camera that moves, or `None` where a turn explains the matches.
        turning: `(T, 4, 4)` poses of a camera that only turns.
        scene: Tracked points in units of `moving`, or `None`.
        diagnostics: Plain numbers.
    """

    intrinsics: Tensor
    focal: FocalEstimate
    key_frames: list[int]
    moving: Tensor | None
    turning: Tensor
    scene: SparseScene | None
    diagnostics: dict[str, Any] = field(default_factory=dict)


def cameras_from_features(name: str, frames: Tensor, intrinsics: Tensor, *, focal_known: bool) -> FeatureCameras:
    """Match features and explain the matches by a turning or by a moving camera.

    Args:
        name: How messages call the clip.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        intrinsics: `(3, 3)` in pixels of `frames`; the focal length is a guess unless `focal_known`.
        focal_known: Whether the focal length is given.

    Raises:
        ScoreUnavailable: The features do not connect the frames, or no model explains their matches; the message says
            which.
    """
    num_frames, width = len(frames), int(frames.shape[-1])
    keys = spread_indices(num_frames, MAX_KEY_FRAMES)
    matrix = intrinsics.double().cpu().clone()
    centre = float(matrix[0, 2]), float(matrix[1, 2])
    known = float(matrix[0, 0]) if focal_known else None
    with match_features(frames[keys], known, centre) as matches:
        if not matches.connected():
            raise ScoreUnavailable(f"{name}: matched features do not connect all frames")
        focal = FocalEstimate(known, "given", 0.0) if known is not None else None
        turn_focal, turn_deviation = (known, 0.0) if known is not None else _focal_of_turn(matches, width)
        turn_matrix = _with_focal(matrix, turn_focal, keep=focal_known)
        turn_pixels = rotation_residual(matches.pairs, turn_matrix)
        if turn_pixels < TURN_PIXELS:
            focal = focal or _focal_with_prior(turn_focal, turn_deviation, width)
            turning = chain_rotations(matches.pairs, _with_focal(matrix, focal.pixels, keep=focal_known), len(keys))
            return FeatureCameras(
                _with_focal(matrix, focal.pixels, keep=focal_known),
                focal,
                keys,
                None,
                interpolate_poses(turning, keys, num_frames),
                None,
                {"turn_residual_px": turn_pixels},
            )
        scene = _mapped_scene(name, matches, matrix, focal_known, width)
        if focal is None:
            length = float(scene.seen.sum() / max(len(scene.points), 1))
            deviation = FocalPrior.honest(scene.focal_deviation, length)
            # The adjustment has met the prior already.
            source = "estimated" if deviation <= DETERMINED else "prior"
            focal = FocalEstimate(float(scene.intrinsics[0, 0]), source, deviation)
        turning = chain_rotations(matches.pairs, scene.intrinsics, len(keys))
    return FeatureCameras(
        scene.intrinsics,
        focal,
        keys,
        interpolate_poses(scene.poses, keys, num_frames),
        interpolate_poses(turning, keys, num_frames),
        scene,
        {
            "turn_residual_px": turn_pixels,
            "points": len(scene.points),
            "reprojection_error_px": scene.error,
        },
    )


def _with_focal(matrix: Tensor, focal: float, *, keep: bool) -> Tensor:
    """Intrinsics with square pixels of this focal length; as given where that is known."""
    if keep:
        return matrix
    result = matrix.clone()
    result[0, 0] = result[1, 1] = focal
    return result


def _focal_with_prior(focal: float, deviation: float, width: int) -> FocalEstimate:
    """The clip's own estimate where it is sure enough, else drawn to the prior."""
    if deviation <= DETERMINED:
        return FocalEstimate(focal, "estimated", deviation)
    prior = FocalPrior.of_width(width)
    return FocalEstimate(prior.combined(focal, deviation), "prior", min(deviation, prior.deviation))


def _focal_of_turn(matches: FeatureMatches, width: int) -> tuple[float, float]:
    return focal_from_turn(matches.pairs, FocalPrior.of_width(width).focal, matches.centre)


def _mapped_scene(name: str, matches: FeatureMatches, matrix: Tensor, focal_known: bool, width: int) -> SparseScene:
    """Poses and points of all key frames.

    Raises:
        ScoreUnavailable: The mapper places too few frames.
    """
    prior = None if focal_known else FocalPrior.of_width(width)
    if prior is not None:
        focal = _search_focal(matches, matrix, width)
        if focal is None:
            raise ScoreUnavailable(f"{name}: no focal length lets the mapper place the frames")
        matrix = _with_focal(matrix, focal, keep=False)
        matches.set_focal(focal)
    model = matches.map()
    placed = 0 if model is None else len(model.poses)
    if model is None or placed < MIN_FRAMES_PLACED * matches.num_frames:
        raise ScoreUnavailable(f"{name}: the mapper placed {placed} of {matches.num_frames} frames")
    scene = adjust(_best_start(_long_tracks(_to_scene(model, matrix, matches.num_frames))))
    if prior is not None:
        free = adjust(scene, focal=prior, num_rounds=2)
        better = soft_inliers(residuals(free)) > soft_inliers(residuals(scene))
        scene = free if better else replace(scene, focal_deviation=free.focal_deviation)
    fewest = int(scene.seen[sorted(model.poses)].sum(1).min())
    if fewest < MIN_POINTS:
        raise ScoreUnavailable(f"{name}: a frame shares {fewest} points with the others, {MIN_POINTS} are needed")
    return scene


def _to_scene(model: MappedModel, matrix: Tensor, num_frames: int) -> SparseScene:
    """The model seen from frame 0, with missing frames interpolated."""
    known = sorted(model.poses)
    ends = {0: model.poses[known[0]], num_frames - 1: model.poses[known[-1]]}
    known = sorted({*known, *ends})
    poses = interpolate_poses(
        torch.stack([model.poses[t] if t in model.poses else ends[t] for t in known]), known, num_frames
    )
    first = poses[0]
    points = model.points @ first[:3, :3].T + first[:3, 3]
    return SparseScene(poses @ invert_pose(first), points, model.observed, matrix, 0.0, 0.0)


def _rivals(scene: SparseScene) -> list[SparseScene]:
    """The scene, and others in which part of the turn is a shift that moves the points alike.

    On a shallow scene the mapper may take a shift for a turn; no descent leads from one to the other.
    """
    distance = float(1 / torch.cat([scene.inverse_depths(t) for t in range(len(scene.poses))]).median())
    starts = [turning_less(scene.poses, share, distance) for share in TURN_SHARES]
    in_turn = turning_at_rest(scene.poses, distance)
    starts += [] if in_turn is None else [in_turn]
    return [scene, *(triangulated(replace(scene, poses=poses)) for poses in starts)]


def _best_start(scene: SparseScene) -> SparseScene:
    """The scene from the poses of the rival that explains most observations after a short refinement.

    It must be clearly better than the scene itself. A part of the tracks is enough to tell.
    """
    rivals = _rivals(_long_tracks(scene, RIVAL_TRACKS))
    refined = [adjust(rival, num_rounds=2, num_iterations=12) for rival in rivals]
    support = [soft_inliers(residuals(rival)) for rival in refined]
    best = support.index(max(support))
    chosen = refined[best] if support[best] > CLEARLY_BETTER * support[0] else refined[0]
    return triangulated(replace(scene, poses=chosen.poses))


def _long_tracks(scene: SparseScene, count: int = MAX_TRACKS) -> SparseScene:
    """The longest tracks, and enough for every frame: the others add time and little accuracy."""
    lengths = scene.seen.sum(0)
    order = lengths.argsort(descending=True, stable=True)
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[:count]] = True
    for frame in range(len(scene.poses)):
        chosen[order[scene.seen[frame, order]][:TRACKS_PER_FRAME]] = True
    return SparseScene(
        scene.poses, scene.points[chosen], scene.observed[:, chosen], scene.intrinsics, scene.error, scene.cost
    )


def _search_focal(matches: FeatureMatches, matrix: Tensor, width: int) -> float | None:
    """Focal length in pixels at which a model of a few frames explains the matches best; `None` without any model."""
    stride = max(1, round(matches.num_frames / FOCAL_FRAMES))
    frames = list(range(0, matches.num_frames, stride))
    best, most = None, 0.0
    for ratio in FOCAL_RATIOS:
        matches.set_focal(ratio * width)
        model = matches.map(frames)
        if model is None or len(model.poses) < 3:
            continue
        start = _to_scene(model, _with_focal(matrix, ratio * width, keep=False), matches.num_frames)
        scene = adjust(
            _long_tracks(start, MAX_TRACKS // 2), focal=FocalPrior.of_width(width), num_rounds=2, num_iterations=8
        )
        support = soft_inliers(residuals(scene))
        if support > most:
            best, most = float(scene.intrinsics[0, 0]), support
    return best
