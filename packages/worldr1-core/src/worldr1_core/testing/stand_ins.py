"""Judges and evidence with known behaviour, to be handed to rewards under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worldr1_core.errors import ScoreUnavailable
from worldr1_core.judge import Judge, Question, Verdict
from worldr1_core.reward import Evidence


class StubJudge(Judge):
    """Gives every question the same grade, and remembers the questions' texts.

    Args:
        score: The grade, in [0, 1].
    """

    def __init__(self, score: float = 0.5) -> None:
        super().__init__()
        self.score = score
        self.asked: list[str] = []

    def grade(self, questions: Sequence[Question]) -> list[Verdict | Exception]:
        """One verdict a question."""
        self.asked += [question.text for question in questions]
        return [Verdict(self.score, mass=1.0) for _ in questions]


class FailingJudge(Judge):
    """Answers no question, as an endpoint that is down."""

    def grade(self, questions: Sequence[Question]) -> list[Verdict | Exception]:
        """One `ScoreUnavailable` a question."""
        return [ScoreUnavailable("the judge did not answer") for _ in questions]


class WatchedEvidence(Evidence):
    """Evidence that writes down which of its parts are read.

    Args:
        evidence: What is handed out.
        touched: Names of the parts that were read are added here.
    """

    def __init__(self, evidence: Evidence, touched: set[str]) -> None:
        super().__init__(evidence.reconstruction, evidence.judge, evidence.reference)
        object.__setattr__(self, "_touched", touched)

    def __getattribute__(self, name: str) -> Any:
        if name in ("reconstruction", "judge", "reference"):
            object.__getattribute__(self, "_touched").add(name)
        return object.__getattribute__(self, name)
