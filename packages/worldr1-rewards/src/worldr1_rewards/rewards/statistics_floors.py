"""Base of the rewards that hold up sharpness, contrast and motion above floors."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.reward import Reward, RewardInputs, Score, score_each
from worldr1_rewards.rewards.frame_statistics import STATISTICS


class StatisticsFloorsReward(Reward):
    """Mean over statistics of how much of its floor each reaches, in [0, 1]; above it, a statistic gains nothing."""

    @abc.abstractmethod
    def floors(self, clip: Clip, inputs: RewardInputs) -> Mapping[str, float]:
        """Floors above 0 that a clip should reach, by the names of `STATISTICS`; at least one.

        Raises:
            ScoreUnavailable: There is no floor to compare with.
            ScoreNotApplicable: No floor makes sense for the clip.
        """

    def measure(self, name: str, frames: Tensor) -> Tensor:
        """A statistic, without dimensions, of the frames `(T, 3, H, W)`.

        Raises:
            ScoreUnavailable: It cannot be computed.
        """
        return STATISTICS[name]().measure(frames)

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: See `floors` and `measure`.
            ScoreNotApplicable: See `floors`.
        """
        floors, frames = self.floors(clip, inputs), clip.video.frames
        shares = {name: min(1.0, float(self.measure(name, frames)) / floor) for name, floor in floors.items()}
        return Score(sum(shares.values()) / len(shares), details=shares)

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`."""
        return score_each(self._value, frames, clips, inputs)

    def _value(self, frames: Tensor, clip: Clip, inputs: RewardInputs) -> Tensor:
        floors = self.floors(clip, inputs)
        shares = [(self.measure(name, frames) / floor).clamp(max=1) for name, floor in floors.items()]
        return sum(shares[1:], shares[0]) / len(shares)
