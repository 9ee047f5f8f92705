"""Ids of log lines and the span of a trace, as a request carries them from process to process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from worldr1_core.log_ids import HEADER, bound_ids, current_ids, read_header, write_header
from worldr1_core.tracing import TRACE_PARENT, span, trace_parent

_MAX_PARENT = 256


def context_headers() -> dict[str, str]:
    """Return the headers that continue the ids and the span of this place in a server."""
    headers = {HEADER: write_header(current_ids()), TRACE_PARENT: trace_parent() or ""}
    return {name: value for name, value in headers.items() if value}


def read_context(headers: Mapping[str, str], request_id: str) -> dict[str, str]:
    """Return the context of a request: its ids, and `traceparent` if it has one.

    Args:
        headers: Headers of the request, which a stranger may have written.
        request_id: Id of the request.
    """
    context = {**read_header(headers.get(HEADER, "")), "request_id": request_id}
    parent = headers.get(TRACE_PARENT, "")
    return {**context, TRACE_PARENT: parent} if 0 < len(parent) <= _MAX_PARENT else context


@contextlib.contextmanager
def continued(name: str, contexts: Sequence[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """Bind the ids of requests that are worked on together, and open a span below theirs.

    Args:
        name: Name of the span.
        contexts: Contexts of the requests. The span is below that of the first.

    Yields:
        The ids, with the span of this place as `traceparent`, to be passed on.
    """
    ids = {key: value for key, value in _shared(contexts).items() if key != TRACE_PARENT}
    requests = [context["request_id"] for context in contexts if "request_id" in context]
    parent = contexts[0].get(TRACE_PARENT) if contexts else None
    with bound_ids(**ids), span(name, parent=parent, requests=requests, **ids):
        own = trace_parent()
        yield {**ids, **({} if own is None else {TRACE_PARENT: own})}


def _shared(contexts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the entries that all contexts have in common."""
    if not contexts:
        return {}
    first, *others = contexts
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
