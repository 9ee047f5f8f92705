"""A placement of the tests: it keeps what it was connected to, and scores by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from worldr1_core.component import ComponentConfig
from worldr1_core.placement import PlacedPart, Placement, RemoteScorer, ScoredClip
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


class Away(Placement):
    """Connects to a `FakeScorer`."""

    scorers: ClassVar[list[FakeScorer]] = []

    class Config(ComponentConfig):
        host: str = "here"

    def connect(self, part):
        self.scorers.append(FakeScorer(part))
        return self.scorers[-1]
