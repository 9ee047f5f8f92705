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
    """Request to a judge about one sample.

    Attributes:
        images: `(N, 3, H, W)` RGB in [0, 1], N >= 1, shown in order before the text.
        text: The instruction; it must ask for a single digit from 0 to 9.
    """

    images: Tensor
    text: str


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """Answer of a judge.

    Attributes:
        score: Expected digit over the ten digit tokens, divided by 9: in [0, 1].
        mass: Probability that the answer is a digit at all, in [0, 1], or `None` if the model does not report it.
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
            One entry per request, in order: a `JudgeResult`, or a `ScoreUnavailable` with the reason.
        """
