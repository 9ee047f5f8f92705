"""A tracer that keeps its spans in memory, for one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Record spans; returns the exporter, whose `get_finished_spans` lists them."""
    trace = pytest.importorskip("opentelemetry.trace")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # OpenTelemetry sets its tracer once per process, and tests need one each.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()
