"""Ids that every log line carries: run and step of training, sample and prompt of a clip, and the request.

Ids are bound around a block of code, follow it into the processes that it asks, and appear in the JSON of each line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote, unquote

ID_NAMES = ("run", "step", "sample", "prompt", "request_id")
"""Ids that are sent to other processes."""
HEADER = "baggage"
"""HTTP header that carries ids (W3C Baggage)."""
_PREFIX = "worldr1."
_MAX_HEADER = 4096
_VALUE = re.compile(r"[\w .:/@+=-]{1,128}", re.ASCII)


def bound_ids(**ids: Any) -> AbstractContextManager[Any]:
    """Bind ids to the log lines of a `with` block.

    Args:
        **ids: Id -> value; `None` is left out.
    """
    from structlog.contextvars import bound_contextvars  # here, so that `worldr1 --help` does without it

    return bound_contextvars(**{name: value for name, value in ids.items() if value is not None})


def current_ids() -> dict[str, str]:
    """Return the ids that are bound here, as text."""
    from structlog.contextvars import get_contextvars

    bound = get_contextvars()
    return {name: str(bound[name]) for name in ID_NAMES if name in bound}


def prompt_id(prompt: str) -> str:
    """Return the short id of a prompt, equal in every process and run.

    Example:
        >>> prompt_id("Camera push in. A room.")
        'p-ad7b569d'
    """
    return f"p-{hashlib.sha256(prompt.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def write_header(ids: Mapping[str, str]) -> str:
    """Write ids as the value of the header; those that do not fit are left out.

    Example:
        >>> write_header({"run": "tiny 1", "step": "3"})
        'worldr1.run=tiny%201,worldr1.step=3'
    """
    usable = {name: value for name, value in ids.items() if name in ID_NAMES and _VALUE.fullmatch(value)}
    return ",".join(f"{_PREFIX}{name}={quote(value, safe='')}" for name, value in usable.items())


def read_header(text: str) -> dict[str, str]:
    """Read the ids in a header. It comes from strangers: entries of another form are passed over.

    Example:
        >>> read_header("other=1, worldr1.run=tiny%201, worldr1.step=3;x=y, worldr1.sample=%0a")
        {'run': 'tiny 1', 'step': '3'}
    """
    found = {}
    for entry in text[:_MAX_HEADER].split(","):
        key, _, value = entry.partition(";")[0].strip().partition("=")
        name, value = key.strip().removeprefix(_PREFIX), unquote(value.strip())
        if key.strip().startswith(_PREFIX) and name in ID_NAMES and _VALUE.fullmatch(value):
            found[name] = value
    return found
