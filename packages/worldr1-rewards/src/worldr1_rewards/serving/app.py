"""The HTTP routes of a server, described by `/openapi.json`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from worldr1_core import __version__
from worldr1_core.log import get_logger
from worldr1_rewards.serving.body_file import BodyFile
from worldr1_rewards.serving.composition import CompositionAnswer
from worldr1_rewards.serving.jobs import Job, check_fingerprint
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.questions import ParsedQuestions, parse_questions
from worldr1_rewards.serving.request_context import continued, read_context
from worldr1_rewards.serving.requests import ParsedRequest, parse_request
from worldr1_rewards.serving.schema import (
    MEDIA_TYPE,
    ErrorAnswer,
    GradeAnswer,
    GradeRequest,
    ScoreAnswer,
    ScoreRequest,
)
from worldr1_rewards.serving.service import ScoringService
from worldr1_rewards.serving.wire_errors import STATUS, ErrorCode, RequestFailed, too_large

log = get_logger(__name__)

MAX_SECONDS = 86400.0
_DRAINED_BYTES = 2**23
"""Bytes of a refused body that are read, so that the client is not cut off before it reads why."""
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_bearer = HTTPBearer(auto_error=False, description="Token of the server, if it was started with one.")

RequestId = Annotated[
    str,
    Header(
        alias="X-Request-ID",
        pattern=r"^[A-Za-z0-9._-]{8,64}$",
        description="Id of the request. A repeated id is answered from memory and not scored again.",
    ),
]
Timeout = Annotated[
    float,
    Header(alias="X-Timeout-Seconds", gt=0, le=MAX_SECONDS, description="Seconds after which nobody waits any more."),
]


def make_app(service: ScoringService, token: str | None = None) -> FastAPI:
    """Make the application of a server.

    Args:
        service: Service that scores; the application starts and stops it.
        token: Token that requests must bring; `None` for none.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="World-R1 rewards",
        version=__version__,
        summary="Scores of clips. Bodies are safetensors files; there is no pickle.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses={401: {"model": ErrorAnswer}} if token else {},
    )
    app.add_exception_handler(RequestFailed, _answer_failure)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    authorisation = _authorisation(token)
    _add_state_routes(app, service, authorisation)
    _add_work_route(
        app,
        service,
        authorisation,
        "score",
        summary="Score clips.",
        answers="Scores.",
        models=(ScoreRequest, ScoreAnswer),
        parse=parse_request,
    )
    _add_work_route(
        app,
        service,
        authorisation,
        "grade",
        summary="Ask the judge, if the server serves it.",
        answers="Grades.",
        models=(GradeRequest, GradeAnswer),
        parse=parse_questions,
    )
    return app


def _authorisation(token: str | None) -> list[Any]:
    """Dependencies of the routes that need the token; none, also in the description, if the server has no token."""
    if token is None:
        return []
    expected = token.encode()

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), expected):
            raise RequestFailed(ErrorCode.UNAUTHORISED, "This server needs its token as `Authorization: Bearer …`.")

    return [Depends(check)]


def _add_state_routes(app: FastAPI, service: ScoringService, authorisation: list[Any]) -> None:
    @app.get("/healthz", summary="The server runs.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="A worker can score.", responses={503: {"model": ErrorAnswer}})
    async def readyz() -> dict[str, str]:
        if not service.is_ready:
            raise RequestFailed(ErrorCode.UNAVAILABLE, "No worker is ready.")
        return {"status": "ready"}

    @app.get(
        "/metrics",
        summary="Metrics in the format of Prometheus.",
        dependencies=authorisation,
        response_class=Response,
        responses={200: {"content": {_METRICS_TYPE: {"schema": {"type": "string"}}}, "description": "Metrics."}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=_METRICS_TYPE)

    @app.get(
        "/v1/composition",
        summary="Rewards that are served, with their options, and the judge.",
        dependencies=authorisation,
        responses={503: {"model": ErrorAnswer}},
    )
    async def composition() -> CompositionAnswer:
        if service.composition is None:
            raise RequestFailed(ErrorCode.UNAVAILABLE, "No worker is ready.")
        found = service.composition
        return CompositionAnswer(
            digest=found.digest,
            composition=found,
            versions=service.versions,
            max_requests=service.settings.max_requests,
        )


def _add_work_route(
    app: FastAPI,
    service: ScoringService,
    authorisation: list[Any],
    name: str,
    *,
    summary: str,
    answers: str,
    models: tuple[type[BaseModel], type[BaseModel]],
    parse: Callable[[memoryview, Limits], ParsedRequest | ParsedQuestions],
) -> None:
    """Add `/v1/NAME`, whose requests wait in the queue for a worker; `models` describe its requests and answers."""

    @app.post(
        f"/v1/{name}",
        name=name,
        summary=summary,
        description=_description(*models),
        dependencies=authorisation,
        response_class=Response,
        responses=_responses(answers),
        openapi_extra=_bodies(*models),
    )
    async def work(request: Request, x_request_id: RequestId, x_timeout_seconds: Timeout = 600.0) -> Response:
        def read(body: memoryview) -> ScoreRequest | GradeRequest:
            found = parse(body, service.settings.limits).request
            _check_composition(service, found)
            return found

        with continued("serve", [read_context(request.headers, x_request_id)]) as context:
            exchange = _Exchange(service, request, x_request_id, x_timeout_seconds, context, read)
            return await exchange.answer()


def _description(request: type[BaseModel], answer: type[BaseModel]) -> str:
    return (
        f"The body is a safetensors file whose metadata entry `worldr1` holds a `{request.__name__}` as JSON; the "
        f"answer holds a `{answer.__name__}` in the same way."
    )


def _responses(description: str) -> dict[int | str, dict[str, Any]]:
    failures = sorted({status for code, status in STATUS.items() if code is not ErrorCode.UNAUTHORISED})
    return {
        200: {"content": {MEDIA_TYPE: _BINARY}, "description": description},
        **{status: {"model": ErrorAnswer} for status in failures},
    }


def _bodies(request: type[BaseModel], answer: type[BaseModel]) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {MEDIA_TYPE: _BINARY}},
        "x-worldr1-request": request.model_json_schema(),
        "x-worldr1-answer": answer.model_json_schema(),
    }


def _check_composition(service: ScoringService, request: ScoreRequest | GradeRequest) -> None:
    served = service.composition
    if served is None:
        raise RequestFailed(ErrorCode.UNAVAILABLE, "No worker is ready.", retry_after=1)
    if request.composition not in ("", served.digest):
        raise RequestFailed(
            ErrorCode.OTHER_COMPOSITION,
            f"The request expects the composition {request.composition!r}, this server has {served.digest!r}.",
        )
    if isinstance(request, GradeRequest):
        if not served.grades:
            raise RequestFailed(
                ErrorCode.NOT_USABLE, "This server does not serve its judge. Start it with `worldr1 serve --judge`."
            )
    elif unknown := sorted(set(request.rewards) - served.rewards.keys()):
        raise RequestFailed(
            ErrorCode.NOT_USABLE, f"This server has no rewards {unknown}. It serves {sorted(served.rewards)}."
        )


class _Exchange:
    """One request to `/v1/score` or `/v1/grade`.

    Args:
        service: Service that answers it.
        request: The request.
        request_id: Its id.
        seconds: Time for which somebody waits.
        context: Ids of log lines and the span.
        read: Checks the body and returns its description.
    """

    def __init__(
        self,
        service: ScoringService,
        request: Request,
        request_id: str,
        seconds: float,
        context: Mapping[str, str],
        read: Callable[[memoryview], ScoreRequest | GradeRequest],
    ) -> None:
        self._service, self._request, self._id, self._context = service, request, request_id, context
        self._read = read
        self._deadline = time.monotonic() + seconds

    async def answer(self) -> Response:
        metrics = self._service.metrics
        try:
            content = await self._scored()
        except RequestFailed as error:
            metrics.requests.labels(error.code).inc()
            log.warning("request failed", request_id=self._id, code=str(error.code), reason=str(error))
            await self._drain()
            raise
        except ClientDisconnect:
            metrics.requests.labels("disconnected").inc()
            log.warning("client disconnected", request_id=self._id)
            return Response(status_code=499)
        metrics.requests.labels("ok").inc()
        return Response(content, media_type=MEDIA_TYPE, headers={"X-Request-ID": self._id})

    async def _scored(self) -> bytes:
        num_bytes = self._declared_bytes()
        if not self._service.is_ready:
            raise RequestFailed(ErrorCode.UNAVAILABLE, "No worker is ready.", retry_after=1)
        self._service.queue.admit(num_bytes)
        try:
            body = _make_body(num_bytes)
            try:
                await self._receive(body)
                job = await self._job(body)
            except BaseException:
                body.close()
                raise
            if isinstance(job, bytes):
                body.close()
                self._service.metrics.repeated.inc()
                return job
            return await self._wait(job)
        finally:
            self._service.queue.release(num_bytes)

    def _declared_bytes(self) -> int:
        text = self._request.headers.get("content-length", "")
        if not text.isdecimal() or len(text) > 15:
            raise RequestFailed(ErrorCode.LENGTH_REQUIRED, "Send the size of the body as Content-Length.")
        allowed = self._service.settings.limits.body_bytes
        if int(text) > allowed:
            raise too_large("Bytes of the body", int(text), allowed)
        return int(text)

    async def _receive(self, body: BodyFile) -> None:
        try:
            async with asyncio.timeout(self._remaining()):
                async for part in self._request.stream():
                    if body.num_received + len(part) > body.num_bytes:
                        raise too_large("Bytes of the body", body.num_received + len(part), body.num_bytes)
                    body.append(part)
        except TimeoutError as error:
            raise RequestFailed(ErrorCode.DEADLINE, "The body did not arrive in time.") from error
        except OSError as error:
            raise RequestFailed(ErrorCode.UNAVAILABLE, f"The server has no room for the body: {error}.") from error
        if body.num_received != body.num_bytes:
            raise RequestFailed(ErrorCode.MALFORMED, "The body is shorter than its Content-Length.")
        self._service.metrics.bytes.inc(body.num_bytes)

    async def _job(self, body: BodyFile) -> Job | bytes:
        """The remembered answer, the job under way with the same id, or a new one."""
        service, fingerprint = self._service, (body.num_bytes, body.checksum)
        remembered = service.memory.find(self._id, fingerprint)
        if remembered is not None:
            return remembered
        if (known := service.jobs.get(self._id)) is not None:
            check_fingerprint(known.fingerprint, fingerprint)
            body.close()
            service.metrics.repeated.inc()
            known.num_waiting += 1
            return known
        if not body.num_bytes:
            raise RequestFailed(ErrorCode.MALFORMED, "The body is empty.")
        request = self._read(body.map())
        answer: asyncio.Future[bytes | RequestFailed] = asyncio.get_running_loop().create_future()
        job = Job(self._id, fingerprint, body, request, self._deadline, answer, context=self._context)
        service.submit(job)
        return job

    async def _wait(self, job: Job) -> bytes:
        """Wait for the answer; stop as soon as the client is gone."""
        waiting = asyncio.create_task(self._service.wait(job, self._remaining()))
        gone = asyncio.create_task(self._disconnected())
        try:
            await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ClientDisconnect
            return waiting.result()
        finally:
            for task in (waiting, gone):
                task.cancel()
            await asyncio.gather(waiting, gone, return_exceptions=True)

    async def _disconnected(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _drain(self) -> None:
        """Read the rest of a small refused body."""
        text = self._request.headers.get("content-length", "")
        if not text.isdecimal() or len(text) > 15 or int(text) > _DRAINED_BYTES:
            return
        with contextlib.suppress(ClientDisconnect, TimeoutError, RuntimeError):
            async with asyncio.timeout(5):
                async for _ in self._request.stream():
                    pass

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise RequestFailed(ErrorCode.DEADLINE, "The time for this request is over.")
        return remaining


def _make_body(num_bytes: int) -> BodyFile:
    try:
        return BodyFile(num_bytes)
    except OSError as error:
        raise RequestFailed(ErrorCode.UNAVAILABLE, f"The server has no room for the body: {error}.") from error


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestFailed)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.code is ErrorCode.UNAUTHORISED:
        headers["WWW-Authenticate"] = "Bearer"
    answer = ErrorAnswer(code=error.code, message=str(error)).model_dump(mode="json")
    return JSONResponse(answer, STATUS[error.code], headers)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    issue = error.errors()[0]
    where = ".".join(str(part) for part in issue["loc"])
    return await _answer_failure(request, RequestFailed(ErrorCode.MALFORMED, f"{where}: {issue['msg']}."))
