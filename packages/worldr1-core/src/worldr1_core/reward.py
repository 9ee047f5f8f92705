"""The interface of rewards: a clip in, a score (or the reason why there is none) out."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from worldr1_core.component import Component
from worldr1_core.errors import PluginError, ScoreUnavailable, shorten

if TYPE_CHECKING:  # a plugin module that defines a reward stays free of torch until a clip is scored
    from torch import Tensor

    from worldr1_core.clip import Clip
    from worldr1_core.judge import Judge
    from worldr1_core.reconstructor import Reconstruction
    from worldr1_core.video import Video


class Requirement(StrEnum):
    """Inputs that a reward can require from the scorer; each is computed once per clip and shared.

    `REFERENCE` is the clip's own reference: training makes it if a reward requires it, and other clips have none.
    """

    RECONSTRUCTION = "reconstruction"
    JUDGE = "judge"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class RewardInputs:
    """Inputs that the scorer computed for a clip; a field is `None` unless the reward's `requires` names it."""

    reconstruction: Reconstruction | None = None
    judge: Judge | None = None
    reference: Video | None = None

    def require_reconstruction(self, reward: str) -> Reconstruction:
        """Return the reconstruction, for a reward whose `requires` names it.

        Args:
            reward: Who needs it, for the message.

        Raises:
            PluginError: The scorer passed none.
        """
        if self.reconstruction is None:
            raise PluginError(f"{reward} needs a reconstruction, and the scorer passed none.")
        return self.reconstruction


@dataclass(frozen=True, slots=True)
class Score:
    """Result of a reward for one clip.

    Attributes:
        value: Finite score, higher is better; NaN if and only if `reason` is given. A numpy scalar or a 0-dim tensor is
            kept as a plain float.
        reason: Why there is no score; `None` if there is one.
        applicable: False if the reward makes no sense for the clip: a total leaves such a score out, while a
            failed one makes the total NaN.
        details: Plain numbers and strings that explain the score.
        spatial_map: Where in the picture the score was earned: `(h, w)` of any size, on any scale, higher is
            better, NaN where it is unknown. Training can credit each place with its own value. `None` without a map.

    Raises:
        ValueError: The value is not finite and has no reason, or a number has a reason or does not apply; or the
            spatial map is not a matrix.
    """

    value: float
    reason: str | None = None
    applicable: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    spatial_map: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        number = as_number(self.value)
        if number is None:
            raise ValueError(f"A score is a float, received {shorten(self.value)}.")
        object.__setattr__(self, "value", number)
        if math.isnan(number) != (self.reason is not None):
            raise ValueError(
                "A score is either a number or NaN with a reason; "
                f"received value {self.value!r} and reason {self.reason!r}. "
                "Raise ScoreUnavailable('why') if there is no score."
            )
        if math.isinf(number):
            raise ValueError(f"A score must be finite, received {number!r}.")
        if self.reason is None and not self.applicable:
            raise ValueError(f"A score of {number!r} cannot be inapplicable. Raise ScoreNotApplicable('why') instead.")
        if self.spatial_map is not None and len(getattr(self.spatial_map, "shape", ())) != 2:
            raise ValueError(f"The spatial map of a score is a tensor (h, w), received {shorten(self.spatial_map)}.")

    @classmethod
    def unavailable(cls, reason: str, *, applicable: bool = True, **details: Any) -> Score:
        """A NaN with its reason."""
        return cls(math.nan, reason, applicable, details)


def as_number(value: object) -> float | None:
    """A Python or numpy number, or a 0-dim tensor, as a float; `None` for anything else, booleans included.

    Arrays are told by `shape` and `item`, so that plugins need not import torch.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class Reward(Component, abc.ABC):
    """Scores clips, higher is better.

    Subclasses list in `requires` the inputs that they need besides the clip, and implement `score`. Raise
    `ScoreUnavailable` (failed) or `ScoreNotApplicable` (the reward makes no sense for this clip) if there is no score.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset()

    @abc.abstractmethod
    def score(self, clip: Clip, inputs: RewardInputs) -> Score | float:
        """Score one clip.

        Args:
            clip: Video, prompt and commanded path.
            inputs: The parts named in `requires`.

        Returns:
            A finite float, or a `Score` that carries details.
        """

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Score many clips; override it if batching is faster. One entry per clip, failures as exceptions, in order."""
        results: list[Score | float | Exception] = []
        for clip, clip_inputs in zip(clips, inputs, strict=True):
            try:
                results.append(self.score(clip, clip_inputs))
            except Exception as error:  # noqa: BLE001 - returned to the scorer, which turns it into NaN with its reason
                results.append(error)
        return results

    @property
    def has_gradient(self) -> bool:
        """Whether the reward implements `score_frames`; override it if that depends on the options."""
        return type(self).score_frames is not Reward.score_frames

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; implement it if the reward is differentiable in the video.

        Objectives such as `reward-gradient` train on it. Choices that have no gradient (depths, matches, the crop of a
        preprocessor) are made on the clips' own videos and held fixed. `score_each` and `scatter_scores` help with the
        NaN.

        Args:
            frames: `(B, T, 3, H, W)` float32 RGB in [0, 1].
            clips: B clips with prompts and commanded paths; the video of each holds the same frames, detached.
            inputs: The parts named in `requires`, of every clip.

        Returns:
            `(B,)` float32 on the device of `frames`: what `score` returns, up to rounding; NaN, without a gradient,
            where `score` raises `ScoreUnavailable` or `ScoreNotApplicable`. No clip influences another.

        Raises:
            NotImplementedError: The reward has no gradient.
        """
        raise NotImplementedError(f"{type(self).__name__} has no gradient: it does not implement score_frames.")


def scatter_scores(values: Tensor, indices: Sequence[int], num_clips: int) -> Tensor:
    """Scores of all clips, from the scores of those that have one.

    Args:
        values: `(N,)` scores.
        indices: N clips that they belong to.
        num_clips: B >= N.

    Returns:
        `(B,)`; NaN, without a gradient, for the other clips.
    """
    scores = values.new_full((num_clips,), math.nan)
    scores[list(indices)] = values
    return scores


def score_each(
    value: Callable[[Tensor, Clip, RewardInputs], Tensor],
    frames: Tensor,
    clips: Sequence[Clip],
    inputs: Sequence[RewardInputs],
) -> Tensor:
    """Scores of many clips by a function of one clip, for `Reward.score_frames`.

    Args:
        value: Gives the score, without dimensions, of frames `(T, 3, H, W)`; it may raise `ScoreUnavailable`.
        frames: `(B, T, 3, H, W)`.
        clips: B clips.
        inputs: Of every clip.

    Returns:
        `(B,)` of the dtype of `frames`; NaN where `value` raised `ScoreUnavailable` or `ScoreNotApplicable`.
    """
    import torch

    values: dict[int, Tensor] = {}
    for index, (own, clip, clip_inputs) in enumerate(zip(frames, clips, inputs, strict=True)):
        with contextlib.suppress(ScoreUnavailable):
            values[index] = value(own, clip, clip_inputs).to(frames)
    if not values:
        return frames.new_full((len(clips),), math.nan)
    return scatter_scores(torch.stack(list(values.values())), list(values), len(clips))


class BatchReward(Reward):
    """A reward that scores clips together. Subclasses implement `score_batch`; `score` calls it with one clip."""

    def score(self, clip: Clip, inputs: RewardInputs) -> Score | float:
        """Score one clip; an exception that `score_batch` returns is raised."""
        [result] = self.score_batch([clip], [inputs])
        if isinstance(result, Exception):
            raise result
        return result

    @abc.abstractmethod
    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Score many clips. One entry per clip, failures as exceptions, in order."""
