"""Placements of the tests: one keeps what it was connected to, and scores by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from worldr1_core.component import ComponentConfig
from worldr1_core.judge import Judge, JudgeResult
from worldr1_core.manifest import ComponentSpec
from worldr1_core.placement import ConnectedJudge, JudgePart, PlacedPart, Placement, RemoteScorer, ScoredClip
from worldr1_core.reward import Score


class FakeScorer(RemoteScorer):
    """Scores by `answer(clip, reward)`."""

    def __init__(self, part: PlacedPart) -> None:
        self.part = part
        self.calls: list[tuple[int, tuple[str, ...], bool]] = []
        self.answer: Callable = lambda clip, reward: Score(0.25)

    def score(self, clips, rewards, *, with_reference):
        self.calls.append((len(clips), tuple(rewards), with_reference))
        return [ScoredClip({name: self.answer(clip, name) for name in rewards}, {"away": 1.0}) for clip in clips]


class FakeJudge(Judge):
    """Keeps what it was made of."""

    def __init__(self, part: JudgePart, host: str) -> None:
        super().__init__()
        self.part, self.host = part, host

    def grade(self, requests):
        return [JudgeResult(0.5, None) for _ in requests]


class Away(Placement):
    """Connects to a `FakeScorer` or a `FakeJudge`."""

    scorers: ClassVar[list[FakeScorer]] = []
    judges: ClassVar[list[FakeJudge]] = []

    class Config(ComponentConfig):
        host: str = "here"

    def connect(self, part):
        self.scorers.append(FakeScorer(part))
        return self.scorers[-1]

    def connect_judge(self, part):
        self.judges.append(FakeJudge(part, self.config.host))
        return ConnectedJudge(self.judges[-1], ComponentSpec(name="away", host=self.config.host))


class RewardsOnly(Placement):
    """Has no place for judges."""

    def connect(self, part):
        return FakeScorer(part)
