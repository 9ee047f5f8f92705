"""The reward `statistics-vs-reference`: sharpness, contrast and motion against the model before training.

Fixed floors (`statistics-threshold`) bind in plain rooms and never in patterned ones, at slow moves and never at fast
ones. Here every prompt has floors of its own.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Requirement, RewardInputs
from worldr1_rewards.rewards.statistics_floors import StatisticsFloorsReward

MIN_STATISTIC = 1e-4
"""A reference below this shows nothing that could be kept."""


class StatisticsVsReferenceReward(StatisticsFloorsReward):
    """Share of the reference's `mean-gradient`, `contrast` and `motion` that a clip has, in [0, 1].

    score = mean over the three of min(1, statistic of the clip / (share x statistic of the reference)).

    The reference is what the model before training made of the same prompt and initial noise; training makes one a
    group. So a policy cannot buy consistency with blur, fading or stillness, and gains nothing by more than there was.
    Motion is left out where the prompt commands a camera at rest.
    """

    class Config(ComponentConfig):
        """Options of `statistics-vs-reference`: what share of the reference must be there; 0 leaves a statistic out."""

        mean_gradient: float = Field(1.0, ge=0, le=10, description="Share of the reference's `mean-gradient`.")
        contrast: float = Field(1.0, ge=0, le=10, description="Share of its `contrast`.")
        motion: float = Field(1.0, ge=0, le=10, description="Share of its `motion`.")

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.REFERENCE})
    config: Config

    def measure(self, name: str, frames: Tensor) -> Tensor:
        """A statistic; 0 where there is nothing to measure, which is nothing to keep, or nothing kept."""
        try:
            return super().measure(name, frames)
        except ScoreUnavailable:
            return frames.new_zeros(())

    def floors(self, clip: Clip, inputs: RewardInputs) -> dict[str, float]:
        """See `StatisticsFloorsReward.floors`.

        Raises:
            ScoreUnavailable: There is no reference, or one of another size; or every share is 0.
            ScoreNotApplicable: Only motion is asked for, and the commanded camera rests; or the reference has nothing
                that could be kept.
        """
        reference = inputs.reference
        if reference is None:
            raise ScoreUnavailable("no reference: only clips that a trainer samples have a video of the model before")
        shape = tuple(clip.video.frames.shape)
        if tuple(reference.frames.shape) != shape:
            raise ScoreUnavailable(f"the reference has the shape {tuple(reference.frames.shape)}, the clip {shape}")
        shares = {name: share for name, share in self.config.model_dump().items() if share > 0}
        if not shares:
            raise ScoreUnavailable("every share is 0: there is nothing to keep")
        if clip.target is not None and clip.target.rests:
            shares.pop("motion", None)
            if not shares:
                raise ScoreNotApplicable("the commanded camera rests, and only motion is compared")
        floors = {name: share * float(self.measure(name, reference.frames)) for name, share in shares.items()}
        floors = {name: floor for name, floor in floors.items() if floor >= MIN_STATISTIC}
        if not floors:
            raise ScoreNotApplicable("the reference has neither detail nor motion that could be kept")
        return floors
