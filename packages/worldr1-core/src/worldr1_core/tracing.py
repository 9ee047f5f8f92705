"""Traces: spans of OpenTelemetry where a program has set up a tracer, and nothing at all elsewhere.

Library code opens spans with `span`. The `worldr1` program sets up a tracer if the usual environment variables of
OpenTelemetry name a collector; a program that uses World-R1 as a library sets up its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
from contextlib import AbstractContextManager
from typing import Any

from worldr1_core.log import get_logger

log = get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Environment variables that name a collector."""
EXTRA = "worldr1-core[otel]"
TRACE_PARENT = "traceparent"
"""HTTP header that continues a trace in another process (W3C Trace Context)."""
_EXPORT_MILLISECONDS = 100
"""Time until spans are sent; short, because a worker is killed when its server has no more work for it."""
_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()


def span(name: str, /, *, parent: str | None = None, **attributes: Any) -> AbstractContextManager[Any]:
    """Open a span around a `with` block; without a tracer, do nothing.

    Args:
        name: Name of the span, such as `score`.
        parent: Header `traceparent` of the process that asked for the work, instead of the current span.
        **attributes: Values that are recorded; `None` is left out.

    Returns:
        A context manager of the span, or of `None` without a tracer.
    """
    api = _api()
    if api is None:
        return _NOTHING
    context = None if parent is None else _propagator().extract({TRACE_PARENT: parent})
    plain = {f"worldr1.{key}": _plain(value) for key, value in attributes.items() if value is not None}
    opened: AbstractContextManager[Any] = api.get_tracer("worldr1").start_as_current_span(
        name, context=context, attributes=plain
    )
    return opened


def trace_parent() -> str | None:
    """Return the header `traceparent` of the current span, or `None` without one."""
    if _api() is None:
        return None
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get(TRACE_PARENT)


def configure_tracing(process: str) -> bool:
    """Export the spans of this process, if the environment names a collector.

    Args:
        process: Kind of process, such as the command or `worker`.

    Returns:
        Whether spans are exported.
    """
    if not is_requested():
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("traces are not exported", reason=str(error), advice=f"pip install '{EXTRA}'")
        return False
    name = os.environ.get("OTEL_SERVICE_NAME", "worldr1")
    provider = TracerProvider(resource=Resource.create({"service.name": name, "worldr1.process": process}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=_EXPORT_MILLISECONDS))
    trace.set_tracer_provider(provider)
    return True


def is_requested() -> bool:
    """Return True if the environment names a collector of traces, and does not switch them off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(os.environ.get(name) for name in ENDPOINTS)


def _api() -> Any:
    """Return OpenTelemetry's module `trace`, or `None` if no tracer can have been set up."""
    api: Any = sys.modules.get("opentelemetry.trace")  # nobody has set up a tracer without importing it
    if api is None or isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    return api


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()


def _plain(value: Any) -> Any:
    """Return a value that OpenTelemetry records."""
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else str(value)
