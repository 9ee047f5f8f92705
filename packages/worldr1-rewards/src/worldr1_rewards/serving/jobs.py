"""Requests under way, and answers that are remembered, so that a repeated request is not scored twice."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from worldr1_rewards.serving.body_file import BodyFile
from worldr1_rewards.serving.schema import GradeRequest, ScoreRequest
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

_MAX_LOSSES = 3
"""Workers that one request may take down before it is refused."""


@dataclass(eq=False, slots=True)
class Job:
    """A request that is queued or being scored.

    Attributes:
        id: Id that the client gave it.
        fingerprint: Size and checksum of its body.
        body: Its body.
        request: Its description.
        deadline: Time of `time.monotonic()` until which somebody waits for the answer.
        answer: Resolved with the body of the answer, or with why there is none.
        num_waiting: Connections that wait for the answer.
        context: Ids of log lines and the span of the request, see `request_context`.
        created: Time of `time.monotonic()` at which it came.
    """

    id: str
    fingerprint: tuple[int, int]
    body: BodyFile
    request: ScoreRequest | GradeRequest
    deadline: float
    answer: asyncio.Future[bytes | RequestFailed]
    num_waiting: int = 0
    context: Mapping[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.monotonic)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits, and the deadline has not passed."""
        return self.num_waiting > 0 and time.monotonic() < self.deadline

    def finish(self, answer: bytes | RequestFailed) -> None:
        """Resolve the answer and free the body."""
        self.body.close()
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass(frozen=True, slots=True)
class _Remembered:
    fingerprint: tuple[int, int]
    answer: bytes
    expires: float


class AnswerMemory:
    """Answers by the id of their request, bounded in number, bytes and time.

    Args:
        max_answers: Largest number of answers.
        max_bytes: Largest sum of their sizes.
        seconds: Time for which an answer is kept.
    """

    def __init__(self, max_answers: int = 4096, max_bytes: int = 64 * 2**20, seconds: float = 900.0) -> None:
        self._max_answers, self._max_bytes, self._seconds = max_answers, max_bytes, seconds
        self._answers: OrderedDict[str, _Remembered] = OrderedDict()
        self._losses: OrderedDict[str, int] = OrderedDict()
        self._num_bytes = 0

    def find(self, request_id: str, fingerprint: tuple[int, int]) -> bytes | None:
        """Return the remembered answer of a request, or `None`.

        Raises:
            RequestFailed: The id belongs to a request with another body, or the request took down workers before.
        """
        if self._losses.get(request_id, 0) >= _MAX_LOSSES:
            raise RequestFailed(
                ErrorCode.FAILED, f"This request took down {_MAX_LOSSES} workers and is not tried again."
            )
        found = self._answers.get(request_id)
        if found is None or found.expires < time.monotonic():
            return None
        check_fingerprint(found.fingerprint, fingerprint)
        return found.answer

    def keep(self, job: Job, answer: bytes) -> None:
        """Remember an answer; the oldest ones make room for it."""
        old = self._answers.pop(job.id, None)
        self._num_bytes += len(answer) - (0 if old is None else len(old.answer))
        self._answers[job.id] = _Remembered(job.fingerprint, answer, time.monotonic() + self._seconds)
        while self._answers and (len(self._answers) > self._max_answers or self._num_bytes > self._max_bytes):
            self._num_bytes -= len(self._answers.popitem(last=False)[1].answer)

    def note_loss(self, job: Job) -> None:
        """Count a worker that was lost while it scored a request."""
        self._losses[job.id] = self._losses.pop(job.id, 0) + 1
        while len(self._losses) > self._max_answers:
            self._losses.popitem(last=False)

    def is_suspect(self, job: Job) -> bool:
        """Whether a worker was lost while it scored this request; it is then scored alone."""
        return job.id in self._losses


def check_fingerprint(known: tuple[int, int], received: tuple[int, int]) -> None:
    """Refuse a body that does not belong to the id it comes with.

    Raises:
        RequestFailed: The fingerprints differ.
    """
    if known != received:
        raise RequestFailed(ErrorCode.ID_REUSED, "This request id belongs to another body. Make a new id per request.")
