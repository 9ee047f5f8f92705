"""One HTTP exchange with one endpoint: the body streamed without copies, and a watch on the server meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any

import httpx
from pydantic import ValidationError

from worldr1_rewards.serving.schema import MEDIA_TYPE, ErrorAnswer
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed, malformed

_PART_BYTES = 2**20
_CONNECT_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 30.0
_MAX_ANSWER_BYTES = 2**29
WATCH_SECONDS = 5.0
"""Time between two looks at a server that is scoring, and the time that it has to say that it is alive."""


class ServerSilent(Exception):
    """A server stopped answering while a request was under way."""


class HttpEndpoint:
    """Connections to one server. Must be used from one event loop.

    Args:
        url: Its root, `http://…`, `https://…` or `unix:PATH`.
        token: Bearer token, or `None`.
        tls: Certificates that are trusted, or `None` for the usual ones.
    """

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None) -> None:
        self._slots: asyncio.Semaphore | None = None
        self._look: asyncio.Future[bool] | None = None
        socket_path = url.removeprefix("unix:") if url.startswith("unix:") else None
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=_KEEP_ALIVE_SECONDS)
        # Loading the usual certificates takes a moment, which plain connections do without.
        verify: ssl.SSLContext | bool = url.startswith("https:") if tls is None else tls
        self._client = httpx.AsyncClient(
            base_url="http://localhost" if socket_path else url.rstrip("/"),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            transport=httpx.AsyncHTTPTransport(verify=verify, limits=limits, uds=socket_path, trust_env=False),
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            trust_env=False,
        )

    def limit(self, max_requests: int | None) -> None:
        """Send at most so many requests at once; further ones wait here, so that no body is sent to be refused.

        Args:
            max_requests: Number, or `None` for any.
        """
        self._slots = None if max_requests is None else asyncio.Semaphore(max_requests)

    async def get(self, path: str) -> httpx.Response:
        """Get a small resource.

        Raises:
            RequestFailed: The server refuses.
            httpx.TransportError: The server cannot be reached.
        """
        response = await self._client.get(path, timeout=_CONNECT_SECONDS)
        if response.status_code != 200:
            raise failure_of(response.status_code, response.content, response.headers.get("Retry-After"))
        return response

    async def post(
        self,
        path: str,
        parts: Sequence[memoryview],
        request_id: str,
        seconds: float,
        context: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send a request and wait for its answer.

        Args:
            path: Route.
            parts: Parts of the body.
            request_id: Its id.
            seconds: Time after which nobody waits any more.
            context: Headers with the ids of log lines and the span.

        Returns:
            Body of the answer.

        Raises:
            RequestFailed: The server has no scores.
            ServerSilent: The server does not say any more that it is alive.
            httpx.TransportError: The connection failed.
        """
        begin = time.monotonic()
        async with self._slots or contextlib.nullcontext():
            remaining = max(0.001, seconds - (time.monotonic() - begin))
            return await self._watched(self._post(path, parts, request_id, remaining, context or {}))

    async def _watched(self, request: Coroutine[Any, Any, bytes]) -> bytes:
        """Wait for an answer as long as the server says that it is alive."""
        exchange = asyncio.create_task(request)
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({exchange, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not exchange.done():
                raise ServerSilent("the server stopped answering")
            return exchange.result()
        finally:
            for task in (exchange, watch):
                task.cancel()
            await asyncio.gather(exchange, watch, return_exceptions=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _post(
        self, path: str, parts: Sequence[memoryview], request_id: str, seconds: float, context: Mapping[str, str]
    ) -> bytes:
        async def body() -> AsyncIterator[bytes]:
            for part in parts:
                for start in range(0, len(part), _PART_BYTES):
                    yield part[start : start + _PART_BYTES]  # type: ignore[misc]  # bytes-like is enough

        headers = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(sum(len(part) for part in parts)),
            "X-Request-ID": request_id,
            "X-Timeout-Seconds": f"{seconds:.3f}",
            **context,
        }
        async with self._client.stream("POST", path, content=body(), headers=headers) as response:
            declared = response.headers.get("Content-Length", "0")
            if not declared.isdecimal() or int(declared) > _MAX_ANSWER_BYTES:
                raise malformed(f"The answer declares {declared!r} bytes.")
            content = await response.aread()
        if response.status_code != 200:
            raise failure_of(response.status_code, content, response.headers.get("Retry-After"))
        return content

    async def _watch(self) -> None:
        """Return when the server has twice not said in time that it is alive."""
        silent = 0
        while silent < 2:
            await asyncio.sleep(WATCH_SECONDS)
            if self._look is None or self._look.done():  # one connection for all requests under way
                self._look = asyncio.ensure_future(self._is_alive())
            silent = 0 if await asyncio.shield(self._look) else silent + 1

    async def _is_alive(self) -> bool:
        try:
            await self._client.get("/healthz", timeout=WATCH_SECONDS)
        except httpx.HTTPError:
            return False
        return True


def failure_of(status: int, content: bytes, retry_after: str | None) -> RequestFailed:
    """The failure that an answer without scores describes."""
    seconds: float | None = None
    with contextlib.suppress(TypeError, ValueError):
        seconds = min(3600.0, max(0.0, float(retry_after)))  # type: ignore[arg-type]  # None is suppressed
    try:
        answer = ErrorAnswer.model_validate_json(content)
    except ValidationError:  # a proxy, or no server of ours
        code = ErrorCode.UNAVAILABLE if status in (502, 503, 504) else ErrorCode.FAILED
        return RequestFailed(code, f"The server answered with status {status} and no reason.", retry_after=seconds)
    return RequestFailed(answer.code, answer.message, retry_after=seconds)
