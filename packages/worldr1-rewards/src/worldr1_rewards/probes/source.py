"""Interface between a probe and the clips it scores, rendered or filmed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from worldr1_core.clip import Clip

CLEAN = "clean"


class ProbeCase(Protocol):
    """One clean clip and everything that is broken from it; equal cases are the same one."""

    @property
    def label(self) -> str:
        """For people."""

    @property
    def scene(self) -> Hashable:
        """Equal for cases that show the same scene under another prompt."""

    def __hash__(self) -> int: ...


class ProbeSample(Protocol):
    """One clip of a probe; equal samples give equal clips."""

    @property
    def case(self) -> ProbeCase:
        """Case from which the clip was made."""

    @property
    def kind(self) -> str:
        """`CLEAN`, a corruption or a hack."""

    @property
    def severity(self) -> float:
        """In (0, 1]; 0 for clean clips."""

    @property
    def varied(self) -> str | None:
        """The source's variation that a clean clip is used for, and for no other figure; `None` for other clips."""

    def clip(self, name: str) -> Clip:
        """Return the clip that a reward is given, under a name that does not reveal its kind."""

    def setting(self, variation: str) -> str:
        """Return the clip's value of a variation in words, e.g. `9 frames`."""


class Source(Protocol):
    """Clips to probe a reward with."""

    @property
    def severities(self) -> tuple[float, ...]:
        """At which every corruption is shown, ascending, in (0, 1]; the last is the full one."""

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Kinds that lower what a fair reward gives, the more the higher the severity."""

    @property
    def hacks(self) -> tuple[str, ...]:
        """Kinds that earn nothing in a fair reward."""

    @property
    def variations(self) -> tuple[str, ...]:
        """Properties in which clean clips are varied, e.g. `resolution`."""

    @property
    def varied_cases(self) -> Sequence[ProbeCase]:
        """Cases that are varied."""

    @property
    def meanings(self) -> Mapping[str, str]:
        """Kind -> what it does, in words."""

    def samples(self) -> Iterator[ProbeSample]:
        """Every clip."""

    def describe(self) -> dict[str, Any]:
        """The source as plain data, for the report."""
