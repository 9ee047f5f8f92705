"""The reward `statistics-threshold`: fixed floors under sharpness, contrast and motion."""

from __future__ import annotations

from pydantic import Field

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import RewardInputs
from worldr1_rewards.rewards.statistics_floors import StatisticsFloorsReward


class StatisticsThresholdReward(StatisticsFloorsReward):
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

    def floors(self, clip: Clip, inputs: RewardInputs) -> dict[str, float]:
        """See `StatisticsFloorsReward.floors`.

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
