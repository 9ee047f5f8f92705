"""The metrics `camera-errors` and `camera-auc`: distances between the estimated and the commanded camera path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_rewards import camera_auc, camera_metrics
from worldr1_rewards.evaluation.columns import STILLNESS, Column
from worldr1_rewards.rewards.path_agreement import check_pose_count, require_target, translates
from worldr1_rewards.rewards.trajectory import with_scene_depth

THRESHOLDS = (5, 15, 30)
"""Degrees up to which the AUC is taken."""


@dataclass(frozen=True, slots=True)
class PathPair:
    """Two paths in comparable units.

    Attributes:
        estimate: `(T, 4, 4)` camera-to-world.
        target: The same shape.
        rests: The target stands still; lengths are then scene depths, else the unit of the target.
    """

    estimate: Tensor
    target: Tensor
    rests: bool


def compared_paths(clip: Clip, reconstruction: Reconstruction) -> PathPair:
    """Return the estimated and the commanded path of a clip.

    Travel that the video does not determine (`has_parallax` is False) counts as none.

    Raises:
        ScoreNotApplicable: No path is commanded.
        ScoreUnavailable: The clip has one frame; or the target stands still, and the scene depth that travel is
            measured in is unknown.
        TrajectoryError: The paths have different numbers of poses.
    """
    target = require_target(clip)
    if clip.video.num_frames < 2:
        raise ScoreUnavailable("needs 2 frames, received 1: there is no motion to compare")
    check_pose_count(target, reconstruction.trajectory.num_frames)
    path = with_scene_depth(reconstruction)
    estimate, goal = (camera_metrics.relative_to_first(c2w) for c2w in (path.c2w, target.c2w))
    if not reconstruction.has_parallax:
        estimate[:, :3, 3] = 0
    rests = not translates(target)
    if rests:
        if path.scene_depth is None and reconstruction.has_parallax:
            raise ScoreUnavailable("the commanded camera stands still, and the reconstructor knows no scene depth")
        estimate[:, :3, 3] /= path.scene_depth or 1.0
        goal[:, :3, 3] = 0
    return PathPair(estimate, goal, rests)


class CameraErrorsReward(Reward):
    """Distances between the estimated and the commanded path; the score is 1 / (1 + CamMC per frame), in (0, 1].

    Both paths are seen from their first camera. Columns, lower is better:

    - `rot_err`: RotErr, sum over the frames of geodesic angles, radians;
    - `trans_err`: TransErr, sum of distances of camera centres, each path divided by its own largest distance from the
      first camera;
    - `cam_mc`: CamMC, sum of the Frobenius norms of the difference of `[R | t]`, normalised in the same way;
    - `ate`: root mean square distance of camera centres after fitting a scale, as a share of the commanded path's
      extent;
    - `rpe_trans`, `rpe_rot`: errors of the motion from frame to frame, as a share of the extent and in degrees.

    Sums are the published form and grow with the number of frames: compare clips of equal length. If the commanded
    camera stands still, nothing can be normalised: distances are then in scene depths, and no scale is fitted.

    Where no rotation is commanded, the rotation of a camera that stands still is right: `rot_err` and `rpe_rot` do not
    see such clips.

    A clip without a path is a failure and has no errors; read the number of failures beside the means.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    columns: ClassVar[tuple[Column, ...]] = (
        Column("rot_err", "RotErr", higher_is_better=False, unit="rad", blind_to=STILLNESS),
        Column("trans_err", "TransErr", higher_is_better=False),
        Column("cam_mc", "CamMC", higher_is_better=False),
        Column("ate", "ATE", higher_is_better=False),
        Column("rpe_trans", "RPE, translation", higher_is_better=False, digits=4),
        Column("rpe_rot", "RPE, rotation", higher_is_better=False, unit="°", blind_to=STILLNESS),
    )

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreNotApplicable: No path is commanded.
            ScoreUnavailable: Travel cannot be measured.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """
        pair = compared_paths(clip, inputs.require_reconstruction("The metric 'camera-errors'"))
        found = camera_metrics.camera_errors(pair.estimate, pair.target, translation="abs" if pair.rests else "rel")
        details = {
            "rot_err": found.rotation,
            "trans_err": found.translation,
            "cam_mc": found.motion,
            **_slam_errors(pair),
            "num_frames": found.num_frames,
        }
        return Score(1 / (1 + found.per_frame.motion), details=details)


def _slam_errors(pair: PathPair) -> dict[str, float]:
    """ATE and RPE, lengths as a share of the target's extent, or in scene depths if it stands still."""
    if pair.rests:
        centres = pair.estimate[:, :3, 3]
        moved = camera_metrics.steps(pair.estimate)
        shift = moved[:, :3, 3].square().sum(-1).mean().sqrt()
        _, turn = camera_metrics.relative_pose_error(pair.estimate, pair.target)
        ate = float(centres.square().sum(-1).mean().sqrt())
        return {"ate": ate, "rpe_trans": float(shift), "rpe_rot": _degrees(turn)}
    extent = float(pair.target[:, :3, 3].norm(dim=-1).max())
    shift_error, turn = camera_metrics.relative_pose_error(pair.estimate, pair.target)
    ate = camera_metrics.absolute_trajectory_error(pair.estimate, pair.target)
    return {"ate": ate / extent, "rpe_trans": shift_error / extent, "rpe_rot": _degrees(turn)}


def _degrees(radians: float) -> float:
    return float(torch.rad2deg(torch.tensor(radians, dtype=torch.float64)))


def _auc_columns() -> tuple[Column, ...]:
    kinds = (("rot", "RotAUC", STILLNESS), ("trans", "TransAUC", ()))
    return tuple(
        Column(f"{key}_auc_{limit}", f"{label}@{limit}°", failure=0.0, blind_to=blind)
        for key, label, blind in kinds
        for limit in THRESHOLDS
    )


class CameraAUCReward(Reward):
    """Accuracy of relative poses over all pairs of frames, in [0, 1], higher is better; failures count as 0.

    `rot_auc_5`, `rot_auc_15` and `rot_auc_30` are areas under the share of pairs whose relative rotation is right
    within t degrees, for t up to 5, 15 and 30; `trans_auc_…` are the same for the direction of travel, and do not apply
    if the commanded camera stands still. The score is the mean of the figures at 30 degrees.

    In an evaluation, a clip whose reconstruction fails counts as 0, so that an estimator cannot gain by leaving out
    difficult clips.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    columns: ClassVar[tuple[Column, ...]] = _auc_columns()

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreNotApplicable: No path is commanded.
            ScoreUnavailable: Travel cannot be measured.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """
        pair = compared_paths(clip, inputs.require_reconstruction("The metric 'camera-auc'"))
        errors = {"rot": camera_auc.pair_rotation_errors(pair.estimate, pair.target)}
        if not pair.rests:
            errors["trans"] = camera_auc.pair_direction_errors(pair.estimate, pair.target)
        details = {
            f"{key}_auc_{limit}": camera_auc.pose_auc(values, limit)
            for key, values in errors.items()
            for limit in THRESHOLDS
        }
        widest = [details[f"{key}_auc_{THRESHOLDS[-1]}"] for key in errors]
        return Score(sum(widest) / len(widest), details=details)
