"""The reward `statistics-vs-reference`: sharpness, contrast and motion against the model before training.

Fixed floors (`statistics-threshold`) bind in plain rooms and never in patterned ones, at slow moves and never at fast
ones. Here every prompt has floors of its own.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_rewards.rewards.frame_statistics import STATISTICS

MIN_STATISTIC = 1e-4
"""A reference below this shows nothing that could be kept."""


class StatisticsVsReferenceReward(Reward):
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

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: There is no reference, or one of another size; or no statistic can be had.
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
        kept = {}
        for name, share in shares.items():
            floor = share * _measure(name, Clip(reference))
            if floor >= MIN_STATISTIC:
                kept[name] = min(1.0, _measure(name, clip) / floor)
        if not kept:
            raise ScoreNotApplicable("the reference has neither detail nor motion that could be kept")
        return Score(sum(kept.values()) / len(kept), details=kept)


def _measure(name: str, clip: Clip) -> float:
    """A statistic; 0 where the metric finds nothing to measure, which is nothing to keep, or nothing kept."""
    try:
        return STATISTICS[name]().score(clip, RewardInputs()).value
    except ScoreUnavailable:
        return 0.0
