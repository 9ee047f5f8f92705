"""Logging: library code takes `get_logger`, the `worldr1` program configures structlog.

Everything goes to stderr, so that stdout holds results alone.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

LEVELS = ("debug", "info", "warning", "error")


def get_logger(name: str) -> Any:
    """Return a logger for library code.

    Events go to structlog where the program has configured it, as `worldr1` does, and to the standard `logging` module
    elsewhere: structlog by itself would print to stdout, which belongs to the user of the library.

    Args:
        name: `__name__` of the module.

    Returns:
        A logger with the methods of a structlog logger: `log.warning("event", key=value)`.
    """
    return _LibraryLogger(name)


def configure_logging(level: str = "info", *, json: bool = False) -> None:
    """Send structlog events to stderr.

    Args:
        level: Lowest level shown, one of `LEVELS`.
        json: One JSON object a line instead of text for people.
    """
    import structlog  # here, so that `worldr1 --help` does without it

    _options.update(json=json)
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


_options = {"json": False}


def is_json() -> bool:
    """Return True if `configure_logging` chose JSON; processes that are started take it over."""
    return _options["json"]


class _StderrFactory:
    """Looks `sys.stderr` up at every event, so that a redirected stream is honoured."""

    def __call__(self, *_: object) -> Any:
        import structlog

        return structlog.PrintLogger(sys.stderr)


class _LibraryLogger:
    """Decides at every event, for a program may configure structlog after our modules are imported."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import structlog

        logger = structlog.get_logger(self._name) if structlog.is_configured() else _standard_logger(self._name)
        return getattr(logger, method)


@functools.cache
def _standard_logger(name: str) -> Any:
    import structlog

    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _as_message,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )


def _as_message(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
    """One line `event (key=value, …)`; a traceback follows it."""
    text = str(event.pop("event"))
    traces = [str(event.pop(key)) for key in ("stack", "exception") if key in event]
    values = ", ".join(f"{key}={value!r}" for key, value in event.items())
    return ("%s", "\n".join([f"{text} ({values})" if values else text, *traces])), {}
