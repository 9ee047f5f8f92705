"""Ids and spans of a request, from the client through the server to the worker."""

from __future__ import annotations

import itertools
import json

import httpx
import structlog

from spans import recorded  # noqa: F401 - a fixture
from worldr1_core.log import configure_logging, get_logger
from worldr1_core.log_ids import bound_ids
from worldr1_core.tracing import span
from worldr1_rewards.serving.request_context import continued, read_context
from worldr1_rewards.serving.requests import encode_request


def test_ids_reach_the_worker(server, make_clip, monkeypatch):
    seen = []
    score = server.worker.score
    monkeypatch.setattr(
        server.worker, "score", lambda *args: seen.extend(args[3]) or score(*args[:3], contexts=args[3])
    )
    with bound_ids(run="tiny 1", step=7):
        server.client().score([make_clip()], ["contrast"])
    (context,) = seen
    assert (context["run"], context["step"]) == ("tiny 1", "7")
    assert len(context["request_id"]) == 32


def test_lines_of_a_worker_carry_the_ids_of_the_request(capsys):
    configure_logging("info", json=True)
    try:
        with continued("worker", [{"run": "r", "step": "2", "request_id": "request-1"}]):
            get_logger("worker").info("scored")
    finally:
        structlog.reset_defaults()
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["run"], line["step"], line["request_id"]) == ("r", "2", "request-1")


def test_requests_that_are_scored_together_share_what_they_have_in_common(recorded):  # noqa: F811
    first = {"run": "r", "step": "2", "request_id": "request-1"}
    second = {"run": "r", "step": "3", "request_id": "request-2"}
    with continued("worker", [first, second]) as context:
        assert {key: value for key, value in context.items() if key != "traceparent"} == {"run": "r"}
    (found,) = recorded.get_finished_spans()
    assert found.attributes["worldr1.requests"] == ("request-1", "request-2")


def test_one_trace_holds_client_server_and_scores(server, make_clip, recorded, monkeypatch):  # noqa: F811
    score = server.worker.score

    def in_worker(files, rewards, deadline, contexts):
        with continued("worker", contexts):
            return score(files, rewards, deadline)

    monkeypatch.setattr(server.worker, "score", in_worker)
    with span("rollout"):
        server.client().score([make_clip(name="clip 3")], ["contrast"])
    spans = {found.name: found for found in recorded.get_finished_spans()}
    assert spans.keys() >= {"rollout", "request", "serve", "worker", "score"}  # FastAPI adds some of its own
    parents = {name: found.parent and found.parent.span_id for name, found in spans.items()}
    chain = ["rollout", "request", "serve", "worker", "score"]
    assert parents["rollout"] is None
    assert all(parents[b] == spans[a].context.span_id for a, b in itertools.pairwise(chain))
    assert spans["request"].attributes["worldr1.samples"] == ("clip 3",)


def test_headers_of_strangers_do_no_harm(server, make_clip, recorded):  # noqa: F811
    body = b"".join(encode_request([make_clip()], ["contrast"]))
    headers = {"X-Request-ID": "request-1", "traceparent": "00-" + "z" * 1000, "baggage": "worldr1.run=%0a%0d,x=y,,;"}
    answer = httpx.post(f"{server.url}/v1/score", content=body, headers=headers, timeout=20)
    assert answer.status_code == 200
    assert read_context(headers, "request-1") == {"request_id": "request-1"}
