"""Client of scoring servers: deadlines, repeats where they are safe, several endpoints, and never a number in doubt.

Scoring has no side effects and every request has an id under which a server remembers its answer, so a request whose
connection broke can be sent again, to the same server or to another one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from worldr1_core.background_loop import run_async
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError, describe_exception
from worldr1_core.judge import JudgeRequest, JudgeResult
from worldr1_core.log import get_logger
from worldr1_core.placement import ScoredClip
from worldr1_core.tracing import span
from worldr1_rewards.serving.answers import decode_answer
from worldr1_rewards.serving.composition import CompositionAnswer
from worldr1_rewards.serving.endpoints import Endpoint, EndpointChoice
from worldr1_rewards.serving.http_exchange import HttpEndpoint, ServerSilent
from worldr1_rewards.serving.questions import decode_grades, encode_questions
from worldr1_rewards.serving.request_context import context_headers
from worldr1_rewards.serving.requests import encode_request
from worldr1_rewards.serving.wire_errors import REPEATABLE, ErrorCode, RequestFailed, malformed

log = get_logger(__name__)
T = TypeVar("T")

_LEAST_SECONDS = 30.0
"""Time that a server has at least to say what it serves, on a busy machine."""
_MAX_LOST = 3
"""Attempts after which a request that took down workers is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Settings of a client.

    Attributes:
        urls: Roots of the servers, `http://…`, `https://…` or `unix:PATH`; all serve the same rewards.
        token: Bearer token, or `None`.
        ca_file: Certificates (PEM) that are trusted, instead of the usual ones.
        timeout: Seconds for a request, repeats included.
        patience: Seconds for which servers that cannot be reached, or have no worker, are asked again.
    """

    urls: Sequence[str]
    token: str | None = None
    ca_file: Path | None = None
    timeout: float = 600.0
    patience: float = 60.0


class ScoringClient:
    """Asks scoring servers. Safe to use from several threads.

    Args:
        settings: Settings.

    Raises:
        UserError: The certificates cannot be read.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._choice = EndpointChoice(settings.urls)
        self._connections: dict[tuple[int, str], HttpEndpoint] = {}
        self._tls = _trusted(settings.ca_file)
        self._max_requests: int | None = None

    def composition(self, seconds: float | None = None) -> CompositionAnswer:
        """Ask a server which rewards it has.

        Args:
            seconds: Time for it; by default the patience of the settings.

        Raises:
            RequestFailed: No server answers.
        """
        patience = self.settings.patience if seconds is None else seconds

        async def ask(endpoint: Endpoint, remaining: float) -> CompositionAnswer:
            response = await self._connection(endpoint).get("/v1/composition")
            try:
                return CompositionAnswer.model_validate_json(response.content)
            except ValidationError as error:
                raise malformed(f"{endpoint.url} is no World-R1 server: its composition is malformed.") from error

        answer = run_async(self._persist(ask, max(patience, _LEAST_SECONDS), patience))
        if answer.max_requests is not None:
            run_async(self._limit(answer.max_requests))
        return answer

    def score(
        self, clips: Sequence[Clip], rewards: Sequence[str], *, composition: str = "", with_reference: bool = False
    ) -> list[ScoredClip]:
        """Score clips.

        Args:
            clips: At least one.
            rewards: Rewards to score with.
            composition: Digest that the server must have; empty for any.
            with_reference: Send the references of the clips.

        Raises:
            RequestFailed: There are no scores; the message says why.
            UserError: A clip cannot be sent.
        """
        parts = encode_request(clips, rewards, composition=composition, with_reference=with_reference)
        answer = self._post("/v1/score", parts, rewards=rewards, samples=[clip.name for clip in clips])
        return decode_answer(memoryview(answer), rewards, len(clips))

    def grade(self, questions: Sequence[JudgeRequest], *, composition: str = "") -> list[JudgeResult | Exception]:
        """Ask the judge.

        Args:
            questions: At least one.
            composition: Digest that the server must have; empty for any.

        Returns:
            One entry per question, as from `Judge.grade`.

        Raises:
            RequestFailed: There are no grades; the message says why.
            UserError: A question cannot be sent.
        """
        answer = self._post("/v1/grade", encode_questions(questions, composition=composition), questions=len(questions))
        return decode_grades(memoryview(answer), len(questions))

    def _post(self, path: str, parts: Sequence[memoryview], **attributes: Any) -> bytes:
        """Send a request until there is an answer or no hope of one; its span has the attributes."""
        request_id = uuid.uuid4().hex
        with span("request", request_id=request_id, **attributes):
            context = context_headers()  # here: the loop runs in a thread without this span

            async def ask(endpoint: Endpoint, remaining: float) -> bytes:
                return await self._connection(endpoint).post(path, parts, request_id, remaining, context)

            return run_async(self._persist(ask, self.settings.timeout, self.settings.patience))

    def close(self) -> None:
        """Close all connections."""
        for key in [key for key in self._connections if key[0] == os.getpid()]:
            run_async(self._connections.pop(key).close())

    async def _persist(self, ask: Callable[[Endpoint, float], Awaitable[T]], seconds: float, patience: float) -> T:
        """Ask until there is an answer, the time is over, or asking again is of no use."""
        begin = time.monotonic()
        trouble: str = "no attempt was made"
        try:
            async with asyncio.timeout(seconds):
                num_lost = 0
                trouble_since: float | None = None
                while True:
                    endpoint, wait = self._choice.next()
                    await asyncio.sleep(wait)
                    remaining = max(0.001, seconds - (time.monotonic() - begin))
                    try:
                        return await self._ask_once(ask, endpoint, remaining)
                    except RequestFailed as error:
                        if error.code not in REPEATABLE:
                            raise
                        failure = error
                        num_lost += error.code is ErrorCode.WORKER_LOST
                        waits_on = error.code is ErrorCode.BUSY
                        endpoint.note_failure(error.retry_after)
                    except (httpx.TransportError, ServerSilent) as error:
                        described = f"{endpoint.url}: {describe_exception(error)}"
                        failure = RequestFailed(ErrorCode.UNAVAILABLE, described)
                        waits_on = False
                        endpoint.note_failure()
                    trouble = str(failure)
                    now = time.monotonic()
                    trouble_since = now if waits_on or trouble_since is None else trouble_since
                    log.info("asking again", endpoint=endpoint.url, reason=trouble)
                    if num_lost >= _MAX_LOST or (not waits_on and now - trouble_since > patience):
                        raise failure
        except TimeoutError as error:
            message = f"There was no answer within {seconds:g} s (last: {trouble})."
            raise RequestFailed(ErrorCode.DEADLINE, message) from error

    async def _ask_once(
        self, ask: Callable[[Endpoint, float], Awaitable[T]], endpoint: Endpoint, remaining: float
    ) -> T:
        endpoint.num_under_way += 1
        try:
            answer = await ask(endpoint, remaining)
        finally:
            endpoint.num_under_way -= 1
        endpoint.note_answer()
        return answer

    async def _limit(self, max_requests: int) -> None:
        """Send no more requests at once to a server than it admits; all servers have the same manifest."""
        self._max_requests = max_requests
        for connection in self._connections.values():
            connection.limit(max_requests)

    def _connection(self, endpoint: Endpoint) -> HttpEndpoint:
        key = (os.getpid(), endpoint.url)
        if key not in self._connections:
            self._connections[key] = HttpEndpoint(endpoint.url, self.settings.token, self._tls)
            self._connections[key].limit(self._max_requests)
        return self._connections[key]


def _trusted(ca_file: Path | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"ca_file {str(ca_file)!r} cannot be read as certificates (PEM): {error}.") from error
