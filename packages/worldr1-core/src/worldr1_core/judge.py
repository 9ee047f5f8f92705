"""The interface of judges: images and a question in, a grade in [0, 1] out."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worldr1_core.component import Component

if TYPE_CHECKING:  # see worldr1_core.reward
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """What a judge is asked about one sample.

    Attributes:
        images: `(N, 3, H, W)` RGB in [0, 1], N >= 1, shown in order before the text.
        text: The instruction; it must ask for a single digit from 0 to 9.
    """

    images: Tensor
    text: str


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """A judge's answer.

    Attributes:
        score: Expected digit over the ten digit tokens, divided by 9: in [0, 1].
        mass: Probability that the answer is a digit at all, in [0, 1], or `None` where the model does not tell.
        source: `"logprobs"` (expectation) or `"text"` (one parsed digit).
    """

    score: float
    mass: float | None
    source: str = "logprobs"


class Judge(Component, abc.ABC):
    """Grades images. Scores do not depend on how requests are batched."""

    @abc.abstractmethod
    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        """Grade every request.

        Returns:
            One entry per request, in order: a `JudgeResult`, or the `ScoreUnavailable` that says why there is none.
        """
