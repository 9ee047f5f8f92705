"""Judges and reward inputs with known behaviour for rewards under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worldr1_core.errors import ScoreUnavailable
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.reward import RewardInputs


class StubJudge(Judge):
    """Gives every question the same grade, and remembers the questions' texts.

    Args:
        score: The grade, in [0, 1].
    """

    def __init__(self, score: float = 0.5) -> None:
        super().__init__()
        self.score = score
        self.asked: list[str] = []

    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        """One result per request."""
        self.asked += [request.text for request in requests]
        return [JudgeResult(self.score, mass=1.0) for _ in requests]


class FailingJudge(Judge):
    """Answers no question, as an endpoint that is down."""

    def grade(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        """One `ScoreUnavailable` per request."""
        return [ScoreUnavailable("the judge did not answer") for _ in requests]


class WatchedInputs(RewardInputs):
    """Reward inputs that record which of its parts are read.

    Args:
        inputs: The inputs that are handed out.
        touched: Names of the parts that were read are added here.
    """

    def __init__(self, inputs: RewardInputs, touched: set[str]) -> None:
        super().__init__(inputs.reconstruction, inputs.judge, inputs.reference)
        object.__setattr__(self, "_touched", touched)

    def __getattribute__(self, name: str) -> Any:
        if name in ("reconstruction", "judge", "reference"):
            object.__getattribute__(self, "_touched").add(name)
        return object.__getattribute__(self, name)
