"""The reward `statistics-threshold`: fixed floors under sharpness, contrast and motion."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score, score_each
from worldr1_rewards.rewards.frame_statistics import STATISTICS


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
        shares = {}
        for name, floor in self._floors(clip).items():
            shares[name] = min(1.0, STATISTICS[name]().score(clip, inputs).value / floor)
        return Score(sum(shares.values()) / len(shares), details=shares)

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`."""
        return score_each(self._value, frames, clips, inputs)

    def _value(self, frames: Tensor, clip: Clip, inputs: RewardInputs) -> Tensor:
        floors = self._floors(clip)
        shares = [(STATISTICS[name]().measure(frames) / floor).clamp(max=1) for name, floor in floors.items()]
        return sum(shares[1:], shares[0]) / len(shares)

    def _floors(self, clip: Clip) -> dict[str, float]:
        """Floors above 0 that the clip should reach.

        Raises:
            ScoreUnavailable: Every floor is 0.
            ScoreNotApplicable: Only motion has one, and the commanded camera rests.
        """
        floors = {name: floor for name, floor in self.config.model_dump().items() if floor > 0}
        if clip.target is not None and clip.target.rests:
            if floors.keys() == {"motion"}:
                raise ScoreNotApplicable("the commanded camera rests, and nothing but motion has a floor")
            floors.pop("motion", None)
        if not floors:
            raise ScoreUnavailable("every floor is 0: there is nothing to compare with")
        return floors
