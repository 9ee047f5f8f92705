"""The reward `trajectory`: agreement of the camera's path with the commanded one (S_traj of the paper)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move, detect_moves
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_rewards.rewards.path_agreement import (
    Tolerances,
    check_pose_count,
    compare_paths,
    require_target,
    translates,
)
from worldr1_rewards.rewards.word_agreement import compare_with_words

RELIEF_QUANTILES = (0.05, 0.95)
MAX_RELIEF_SAMPLES = 4096
FULL_RELIEF = 0.5
"""Relief of inverse depth from which on a scene counts as solid without reserve."""


class TrajectoryReward(Reward):
    """Agreement of the camera with the command, S_traj = exp(-error) in [0, 1] (paper, section on rewards).

    The error adds the angle between travelled and commanded directions, over whole paths and over eighths of the clip,
    and the geodesic error of the orientations. It is multiplied by how much of the commanded travel and turn was made
    (1 from the whole on, about 0.5 at the shares in the options), so that standing still or moving at half the speed
    lowers the score. Travel is compared in units of scene depth if both sides know theirs; otherwise only its
    direction counts. A target at rest rewards rest; a pan must not travel. The commanded path scores exactly 1.

    A 2D slide or zoom over one picture is no camera move. If a translation is commanded, it looks like a plane: the
    score is multiplied by a factor that grows like r³ / (r³ + relief³) with the relief r of the estimated inverse depth
    and is 1 from r = 0.5 on, which also lowers the score of a real but flat scene. If only a turn is commanded, it
    shows as a misfit of the pure rotation: if the reconstructor reports how much better a moving camera explains the
    frames (`diagnostics["move_ratio"]`, m), the score is multiplied by 1 / (1 + ((m - 1) / misfit)²). A wrong focal
    length lowers this factor a little.

    Camera words without a path (`Clip.moves`) command a kind of motion and a direction, not an amount. By default the
    score is then that of `worldr1_rewards.rewards.word_agreement`, times the same factor against moved pictures; the
    option `amount` selects, and both values are in the details. A given path always takes precedence.
    """

    class Config(ComponentConfig):
        """Options of `trajectory`."""

        direction_scale: float = Field(
            0.25, gt=0, le=2, description="Direction error (1 - cosine) that multiplies the score by 1/e."
        )
        rotation_scale: float = Field(
            4.0, gt=0, le=180, description="Rotation error in degrees that multiplies the score by 1/e."
        )
        drift_scale: float = Field(
            0.1, gt=0, le=10, description="Uncommanded travel, in scene depths, that multiplies the score by 1/e."
        )
        travel_half: float = Field(
            0.6,
            gt=0,
            lt=1,
            description="Share of a short commanded travel that earns about half; a smaller one for long ways.",
        )
        turn_half: float = Field(0.35, gt=0, lt=1, description="Share of the commanded angle that earns about half.")
        relief: float = Field(
            0.15,
            ge=0,
            le=1,
            description="Relief of inverse depth that earns half where a translation is commanded; 0 switches it off.",
        )
        amount: Literal["auto", "exact", "lenient"] = Field(
            "auto",
            description="How strictly the amount of motion is judged; auto: exactly where a path is given, leniently "
            "where only camera words are.",
        )
        misfit: float = Field(
            4.0,
            ge=0,
            le=100,
            description="Excess residual ratio of the pure rotation that halves the score of a pan; 0 switches it off.",
        )

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreNotApplicable: No path is commanded.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """
        require_target(clip)
        return self.judge(clip, inputs.require_reconstruction("The reward 'trajectory'"))

    def judge(self, clip: Clip, reconstruction: Reconstruction) -> Score:
        """Score an estimated path against the command of the clip: a path exactly, words leniently (`amount`).

        If both can be judged, the details hold both values, `exact` and `lenient`, and the factors of each.

        Raises:
            ScoreNotApplicable: No path is commanded.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """
        target = require_target(clip)
        exact = self.follow(reconstruction, target)
        moves = self._words(clip)
        if not moves:
            return exact
        agreement = compare_with_words(
            with_scene_depth(reconstruction), moves, self._tolerances(), has_parallax=reconstruction.has_parallax
        )
        lenient = agreement.score * float(exact.details["validity"])
        value = exact.value if self.config.amount == "exact" else lenient
        return Score(value, details={**exact.details, **asdict(agreement), "exact": exact.value, "lenient": lenient})

    def _words(self, clip: Clip) -> tuple[Move, ...]:
        """The camera words to judge by; with `amount: lenient` also those that stand beside a given path."""
        if clip.moves or self.config.amount != "lenient":
            return clip.moves
        return tuple(detect_moves(clip.prompt))

    def follow(self, reconstruction: Reconstruction, target: CameraTrajectory) -> Score:
        """Score an estimated path against a commanded one.

        Raises:
            TrajectoryError: They have different numbers of poses.
        """
        estimate = with_scene_depth(reconstruction)
        check_pose_count(target, estimate.num_frames)
        agreement = compare_paths(estimate, target, self._tolerances(), has_parallax=reconstruction.has_parallax)
        relief = scene_relief(reconstruction)
        if translates(target):
            validity = self._relief_factor(relief)
        else:
            validity = 1.0 if agreement.turn is None else self._rotation_fit_factor(reconstruction)
        details = {key: value for key, value in asdict(agreement).items() if value is not None and key != "score"}
        if relief is not None:
            details["relief"] = relief
        return Score(agreement.score * validity, details={**details, "validity": validity})

    def _tolerances(self) -> Tolerances:
        options = self.config
        return Tolerances(
            direction=options.direction_scale,
            rotation=options.rotation_scale,
            drift=options.drift_scale,
            travel=options.travel_half,
            turn=options.turn_half,
        )

    def _relief_factor(self, relief: float | None) -> float:
        """Factor in [0, 1] of the relief; 1 where the reconstructor has no depth to judge by."""
        if relief is None or self.config.relief == 0:
            return 1.0
        half = (self.config.relief / FULL_RELIEF) ** 3
        cubed = (relief / FULL_RELIEF) ** 3
        return min(1.0, (1 + half) * cubed / (cubed + half))

    def _rotation_fit_factor(self, reconstruction: Reconstruction) -> float:
        """Factor in (0, 1] of how well a pure rotation explains a clip taken for one; 1 where that is unknown."""
        ratio = reconstruction.diagnostics.get("move_ratio")
        if ratio is None or reconstruction.has_parallax or self.config.misfit == 0:
            return 1.0
        return 1 / (1 + (max(0.0, float(ratio) - 1) / self.config.misfit) ** 2)


def with_scene_depth(reconstruction: Reconstruction) -> CameraTrajectory:
    """The estimated path with its unit: `trajectory.scene_depth`, else the median depth of frame 0, else unknown."""
    path = reconstruction.trajectory
    if path.scene_depth is not None or reconstruction.depth is None:
        return path
    return replace(path, scene_depth=float(reconstruction.depth[0].median()))


def scene_relief(reconstruction: Reconstruction) -> float | None:
    """The reconstructor's own `diagnostics["relief"]`, which may leave out plain walls, else `inverse_depth_relief`."""
    own = reconstruction.diagnostics.get("relief")
    return inverse_depth_relief(reconstruction) if own is None else float(own)


def inverse_depth_relief(reconstruction: Reconstruction) -> float | None:
    """Spread of inverse depth, (95th - 5th percentile) / median, the median over the frames; 0 for a facing plane.

    `None` where the reconstructor gives no depth.
    """
    if reconstruction.depth is None:
        return None
    inverse = 1 / reconstruction.depth.flatten(1).float().clamp(min=1e-6)
    inverse = inverse[:, :: max(1, inverse.shape[1] // MAX_RELIEF_SAMPLES)]
    low, high = torch.quantile(inverse, torch.tensor(RELIEF_QUANTILES, device=inverse.device), dim=1)
    return float(((high - low) / inverse.median(1).values).median())
