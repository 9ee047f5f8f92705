"""The reward `consistency`: rigidity of the scene between neighbouring frames, independent of `reconstruction`.

It builds no scene and re-renders nothing. Of the reconstruction it takes the cameras and each frame's depth, which any
estimator of both can give, and looks every frame up in its neighbour. The paper's MVCS, a multi-view consistency score
without reconstruction, has no public definition; this is ours, under its own name: symmetric neighbour reprojection.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from worldr1_core.camera.geometry import default_intrinsics, scale_intrinsics
from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_rewards.rewards.moving_parts import MovingConfig, MovingParts, require_rigid_part
from worldr1_rewards.rewards.neighbour_reprojection import Reprojection, reproject_neighbours
from worldr1_rewards.rewards.path_agreement import translates
from worldr1_rewards.rewards.trajectory import TrajectoryReward

STEPS = 8
"""Neighbours lie an eighth of the clip apart, whatever its number of frames."""
WORST_SHARE = 0.25
"""Share of the pairs, the worst ones, that count: a scene that breaks once is broken."""
REST_SHIFT = 1e-3
"""Mean shift between neighbours, as a share of the width, below which the cameras rest."""
MIN_VARIANCE = 2e-5
"""Mean variance of the compared pixels below which there is nothing to compare."""
LEAST_TURN = 0.1
"""Degrees that a commanded camera must turn to count as turning."""


class ConsistencyReward(Reward):
    """Symmetric neighbour reprojection, in [0, 1], higher is better.

    Every frame t and its neighbour t + k, with k an eighth of the clip, are looked up in each other by the estimated
    depth and pose. A pixel counts where its surface falls inside the other frame and is not hidden there: its depth
    exceeds the neighbour's own by at most a tenth. A pair's u is its mean squared colour error over the variance of the
    pixels that count, the mean of both directions, at 64 pixels on each side. With u the mean over the worst quarter of
    the pairs,

        score = u0 / (u0 + u) x gate

    By itself it prefers less motion, so `gate: trajectory` (default) multiplies by S_traj of the reward `trajectory`
    where a path is commanded; `none` is the bare measure, for evaluations.

    Cameras that rest show no second view. Where a move is commanded, that is the clip's fault and earns 0; where
    none is, the question does not apply. A pan is compared by its rotation alone: it tells whether the picture is
    rigid, nothing of depth.

    `moving: mask` compares the rigid part of the scene alone, as `worldr1_rewards.rewards.moving_parts` finds it.
    """

    class Config(MovingConfig):
        """Options of `consistency`."""

        gate: Literal["trajectory", "none"] = Field(
            "trajectory", description="What keeps small motion from paying; trajectory needs a commanded path."
        )
        unexplained: float = Field(
            0.02, gt=0, le=1, description="u0: unexplained share of the variance that earns half."
        )

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: One frame, no depth, no texture, neighbours that share too little, or almost everything
                moves.
            ScoreNotApplicable: The cameras rest, and no move is commanded.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """
        reconstruction = inputs.require_reconstruction("The reward 'consistency'")
        num_frames = clip.video.num_frames
        if num_frames < 2:
            raise ScoreUnavailable("needs 2 frames, received 1: there are no neighbours to compare")
        stride = max(1, round((num_frames - 1) / STEPS))
        moving = require_rigid_part(clip.video.frames, reconstruction) if self.config.moving == "mask" else None
        found = _compare(clip, reconstruction, stride, moving)
        known = found.unexplained[~found.unexplained.isnan()]
        if len(known) == 0:
            raise ScoreUnavailable(
                f"neighbouring frames share too little: {float(found.overlap.max()):.0%} of the best pair is visible"
            )
        if found.variance < MIN_VARIANCE:
            raise ScoreUnavailable("no texture: any depth and pose would explain these frames")
        details: dict[str, float | str] = {
            "overlap": float(found.overlap.mean()),
            "shift": found.shift,
            "stride": stride,
            "pairs": len(known),
        }
        if moving is not None:
            details["moving_share"] = moving.share
        if found.shift < REST_SHIFT:
            if _commands_motion(clip):
                return Score(0.0, details={**details, "earned": "a move was commanded, but the cameras rest"})
            raise ScoreNotApplicable("the cameras rest, so that neighbours are no second view of the scene")
        worst = float(known.topk(max(1, round(WORST_SHARE * len(known)))).values.mean())
        gate = self._gate(clip, reconstruction)
        quality = self.config.unexplained / (self.config.unexplained + worst)
        return Score(quality * gate, details={**details, "unexplained": worst, "quality": quality, "gate": gate})

    def _gate(self, clip: Clip, reconstruction: Reconstruction) -> float:
        if self.config.gate == "none" or clip.target is None:
            return 1.0
        return TrajectoryReward().judge(clip, reconstruction).value


def _compare(clip: Clip, reconstruction: Reconstruction, stride: int, moving: MovingParts | None) -> Reprojection:
    frames = clip.video.frames
    trajectory = reconstruction.trajectory
    if trajectory.num_frames != len(frames):
        raise PluginError(f"The reconstruction has {trajectory.num_frames} poses for {len(frames)} frames.")
    size = clip.video.size
    intrinsics = default_intrinsics(*size) if trajectory.intrinsics is None else trajectory.intrinsics
    if trajectory.image_size is not None:
        intrinsics = scale_intrinsics(intrinsics, trajectory.image_size, size)
    c2w, depth = trajectory.c2w, reconstruction.depth
    if not reconstruction.has_parallax:
        c2w = c2w.clone()
        c2w[:, :3, 3] = 0
        depth = torch.ones_like(frames[:, 0])
    if depth is None:
        raise ScoreUnavailable("the reconstructor estimates no depth, and the cameras travel")
    if not bool((torch.isfinite(depth) & (depth > 0)).all()):
        raise ScoreUnavailable("the estimated depth holds values that are not positive and finite")
    left_out = None if moving is None else moving.mask
    depth = depth.to(frames.device)
    return reproject_neighbours(frames, depth, c2w, intrinsics, stride=stride, left_out=left_out)


def _commands_motion(clip: Clip) -> bool:
    target = clip.target
    return target is not None and (translates(target) or target.rotation_extent > LEAST_TURN)
