"""The metrics `mean-gradient`, `contrast` and `motion`: what a policy loses that wins by blur, fading or stillness.

The reward `statistics-threshold` holds them up in training.
"""

from __future__ import annotations

import torch
from pydantic import Field

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_rewards import metrics
from worldr1_rewards.reconstructors.pyramid import luma

MOTION_SIDE = 16


class MeanGradientReward(Reward):
    """Mean absolute difference of neighbouring pixels, along rows plus along columns, in [0, 2]: sharpness."""

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: A side is a single pixel.
        """
        frames = clip.video.frames
        if min(clip.video.size) < 2:
            raise ScoreUnavailable(f"needs 2 pixels on each side, received {clip.video.size}")
        return Score(float(frames.diff(dim=-1).abs().mean() + frames.diff(dim=-2).abs().mean()))


class ContrastReward(Reward):
    """Standard deviation of a frame's luminance, mean over the frames, in [0, 0.5]."""

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip."""
        return Score(float(luma(clip.video.frames).flatten(1).std(1, correction=0).mean()))


class MotionReward(Reward):
    """Mean absolute change from frame to frame at 16 pixels on each side, over the contrast at that size: in [0, inf).

    The coarse size is blind to noise and boiling detail; the contrast makes faded clips comparable. It tells amounts of
    motion apart within one kind of scene; it does not tell motion of the camera from motion of the scene.
    """

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: There is one frame, or nothing to see.
        """
        frames = clip.video.frames
        if len(frames) < 2:
            raise ScoreUnavailable("needs 2 frames, received 1")
        small, _ = metrics.shrink(frames, torch.ones_like(frames[:, 0]), MOTION_SIDE)
        contrast = float(small.flatten(2).std(2, correction=0).mean())
        if contrast < 1e-3:
            raise ScoreUnavailable("no texture: no motion can be seen")
        return Score(float(small.diff(dim=0).abs().mean()) / contrast)


STATISTICS: dict[str, type[MeanGradientReward | ContrastReward | MotionReward]] = {
    "mean_gradient": MeanGradientReward,
    "contrast": ContrastReward,
    "motion": MotionReward,
}
"""What a policy must not lose, by the names of options."""


class StatisticsThresholdReward(Reward):
    """Mean over `mean-gradient`, `contrast` and `motion` of how much of its floor each reaches, in [0, 1].

    A model without an aesthetic judge still must not buy consistency with blur, fading or stillness. Floors are figures
    of the model before training, or of real footage; above its floor a statistic gains nothing. A floor of 0 leaves its
    statistic out, and motion is left out where the prompt commands a camera at rest.
    """

    class Config(ComponentConfig):
        """Options of `statistics-threshold`."""

        mean_gradient: float = Field(0.0, ge=0, le=2, description="Floor of `mean-gradient`.")
        contrast: float = Field(0.0, ge=0, le=0.5, description="Floor of `contrast`.")
        motion: float = Field(0.0, ge=0, le=100, description="Floor of `motion`.")

    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: A statistic cannot be computed, or every floor is 0.
            ScoreNotApplicable: Only motion has a floor, and the commanded camera rests.
        """
        floors = self.config.model_dump()
        if clip.target is not None and clip.target.rests:
            if floors["motion"] > 0 and not (floors["mean_gradient"] or floors["contrast"]):
                raise ScoreNotApplicable("the commanded camera rests, and nothing but motion has a floor")
            floors["motion"] = 0.0
        shares = {}
        for name, metric in STATISTICS.items():
            if floors[name] > 0:
                shares[name] = min(1.0, metric().score(clip, inputs).value / floors[name])
        if not shares:
            raise ScoreUnavailable("every floor is 0: there is nothing to compare with")
        return Score(sum(shares.values()) / len(shares), details=shares)
