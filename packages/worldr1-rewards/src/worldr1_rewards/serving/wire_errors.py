"""Failures of requests: a code that programs read, the HTTP status it stands for, and a message for people."""

from __future__ import annotations

from enum import StrEnum

from worldr1_core.errors import WorldR1Error


class ErrorCode(StrEnum):
    """Reason why a request has no scores."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    LENGTH_REQUIRED = "length_required"
    UNAUTHORISED = "unauthorised"
    OTHER_COMPOSITION = "other_composition"
    ID_REUSED = "id_reused"
    NOT_USABLE = "not_usable"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"
    WORKER_LOST = "worker_lost"
    FAILED = "failed"


STATUS: dict[ErrorCode, int] = {
    ErrorCode.MALFORMED: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.LENGTH_REQUIRED: 411,
    ErrorCode.UNAUTHORISED: 401,
    ErrorCode.OTHER_COMPOSITION: 409,
    ErrorCode.ID_REUSED: 409,
    ErrorCode.NOT_USABLE: 422,
    ErrorCode.BUSY: 429,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.DEADLINE: 504,
    ErrorCode.WORKER_LOST: 502,
    ErrorCode.FAILED: 500,
}
"""Code -> HTTP status."""

REPEATABLE = frozenset({ErrorCode.BUSY, ErrorCode.UNAVAILABLE, ErrorCode.WORKER_LOST})
"""Codes after which the same request may be sent again, to the same server or to another one."""


class RequestFailed(WorldR1Error):
    """A request that has no scores.

    Attributes:
        code: Reason, for programs.
        retry_after: Seconds after which a busy server may accept the request, or `None`.
    """

    def __init__(self, code: ErrorCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


def malformed(message: str) -> RequestFailed:
    """A request or an answer that does not have the documented form."""
    return RequestFailed(ErrorCode.MALFORMED, message)


def too_large(what: str, received: int, allowed: int) -> RequestFailed:
    """A request above a limit of the server."""
    return RequestFailed(
        ErrorCode.TOO_LARGE,
        f"{what}: received {received}, this server allows {allowed}. Send less, or raise the limit of the server.",
    )
