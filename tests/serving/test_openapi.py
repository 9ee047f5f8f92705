"""The routes answer as `/openapi.json` says, whatever schemathesis makes up; and a real request passes too."""

from __future__ import annotations

import httpx
import pytest

from worldr1_rewards.serving.requests import encode_request
from worldr1_rewards.serving.schema import MEDIA_TYPE

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (dependency group dev)")

EXAMPLES = 60
"""Requests per route and kind of token."""


@pytest.fixture(autouse=True, scope="module")
def _bodies() -> None:
    """Made-up bodies are sent as they are."""
    schemathesis.serializer.alias(MEDIA_TYPE, "application/octet-stream")


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "a-secret-token"], ids=["open", "with a token"])
def test_routes_answer_as_they_are_described(start_server, token):
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    server = start_server(token=token)
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    # A made-up body is no safetensors file, and a deadline of a millisecond is answered with 504.
    left_out = [positive_data_acceptance, not_a_server_error]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/v1/score", "/v1/grade", "/v1/composition", "/readyz"}
    for operation in operations:

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case):
            answer = case.call_and_validate(headers=headers, timeout=20, excluded_checks=left_out)
            assert answer.status_code != 500

        check()
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert server.service.queue.num_requests == 0


@pytest.mark.slow
def test_a_real_request_is_within_the_description(server, make_clip):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    body = b"".join(encode_request([make_clip()], ["contrast"]))
    case = schema["/v1/score"]["POST"].Case(
        body=body, media_type=MEDIA_TYPE, headers={"X-Request-ID": "request-0", "X-Timeout-Seconds": "20"}
    )
    answer = case.call_and_validate()
    assert answer.status_code == 200
