"""Spans: nested across threads, and absent without a tracer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spans import recorded  # noqa: F401 - a fixture
from worldr1_core import tracing
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.reward import Reward
from worldr1_core.scoring import ScoringEngine

WITHOUT = """
import sys
from worldr1_core.tracing import configure_tracing, span, trace_parent
assert span("a") is span("b"), "a context manager is made although nobody listens"
assert trace_parent() is None and not configure_tracing("test")
assert "opentelemetry" not in sys.modules
"""


class Mean(Reward):
    def score(self, clip, inputs):
        return float(clip.video.frames.mean())


def test_nothing_is_imported_or_made_without_a_tracer():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True, env={"PATH": ""})


def test_spans_nest_and_hold_their_values(recorded):  # noqa: F811
    with tracing.span("outer", step=3, sample=None), tracing.span("inner", samples=["a", "b"]):
        pass
    inner, outer = recorded.get_finished_spans()
    assert inner.parent.span_id == outer.context.span_id
    assert dict(outer.attributes) == {"worldr1.step": 3}
    assert dict(inner.attributes) == {"worldr1.samples": ("a", "b")}


def test_a_trace_goes_on_from_its_header(recorded):  # noqa: F811
    with tracing.span("here"):
        header = tracing.trace_parent()
    with tracing.span("there", parent=header):
        pass
    here, there = recorded.get_finished_spans()
    assert there.context.trace_id == here.context.trace_id
    assert there.parent.span_id == here.context.span_id


@pytest.mark.parametrize("header", ["", "00-0-0-00", "x" * 200])
def test_a_malformed_header_begins_a_new_trace(recorded, header):  # noqa: F811
    with tracing.span("there", parent=header):
        pass
    assert recorded.get_finished_spans()[0].parent is None


def test_every_reward_has_a_span(recorded, make_clip):  # noqa: F811
    components = ScoringComponents([WeightedReward("mean", 1.0, Mean())], None, None)
    list(ScoringEngine(components).score([make_clip(name="clip 7")]))
    (span,) = recorded.get_finished_spans()
    assert (span.name, dict(span.attributes)) == (
        "score",
        {"worldr1.reward": "mean", "worldr1.samples": ("clip 7",)},
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_environment_asks_for_traces(monkeypatch, variables, expected):
    for name in (*tracing.ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_requested() is expected


def test_a_missing_extra_is_a_warning(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert tracing.configure_tracing("test") is False
    assert "pip install 'worldr1-core[otel]'" in caplog.text
