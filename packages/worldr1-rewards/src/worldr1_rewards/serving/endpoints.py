"""Endpoints of a client: which one is asked next, and how long one that failed is left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

_FIRST_REST, _LONGEST_REST = 0.25, 10.0


@dataclass(slots=True)
class Endpoint:
    """One server.

    Attributes:
        url: Its root, `http://…`, `https://…` or `unix:PATH`.
        num_under_way: Requests that wait for it.
        num_failures: Failures since its last answer.
        rests_until: Time of `time.monotonic()` until which it is left alone.
    """

    url: str
    num_under_way: int = 0
    num_failures: int = 0
    rests_until: float = 0.0

    @property
    def rest(self) -> float:
        """Seconds for which it is still left alone."""
        return max(0.0, self.rests_until - time.monotonic())

    def note_answer(self) -> None:
        """Note that it works."""
        self.num_failures, self.rests_until = 0, 0.0

    def note_failure(self, seconds: float | None = None) -> None:
        """Leave it alone.

        Args:
            seconds: For so long, as it asked; by default twice as long as after the failure before.
        """
        self.num_failures += 1
        if seconds is None:
            seconds = min(_LONGEST_REST, _FIRST_REST * 2 ** min(self.num_failures - 1, 16))
        self.rests_until = max(self.rests_until, time.monotonic() + seconds)


class EndpointChoice:
    """Chooses among endpoints: those that work first, and among these the one with the fewest requests.

    Args:
        urls: Roots of the servers.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.endpoints = [Endpoint(url) for url in urls]

    def next(self) -> tuple[Endpoint, float]:
        """Return the endpoint to ask, and the seconds to wait before it is asked, with jitter."""
        order = random.sample(self.endpoints, len(self.endpoints))
        chosen = min(order, key=lambda endpoint: (endpoint.rest, endpoint.num_under_way))
        return chosen, chosen.rest * random.uniform(1.0, 1.5)
