"""structlog set-up of the `worldr1` program: everything goes to stderr, so that stdout holds results alone."""

from __future__ import annotations

import logging
import sys
from typing import Any

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(level: str = "info", *, json: bool = False) -> None:
    """Send structlog events to stderr.

    Args:
        level: Lowest level shown, one of `LEVELS`.
        json: One JSON object a line instead of text for people.
    """
    import structlog  # here, so that `worldr1 --help` does without it

    renderer = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if not json else "iso", utc=json),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_StderrFactory(),
        cache_logger_on_first_use=False,
    )


class _StderrFactory:
    """Looks `sys.stderr` up at every event, so that a redirected stream is honoured."""

    def __call__(self, *_: object) -> Any:
        import structlog

        return structlog.PrintLogger(sys.stderr)
