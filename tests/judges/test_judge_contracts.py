"""The conformance kit on the judges that ship."""

from __future__ import annotations

import json

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from judges.tiny_vlm import build_vlm
from worldr1_core.testing import judge_checks
from worldr1_rewards.judges.openai_judge import OpenAIJudge
from worldr1_rewards.judges.transformers_judge import TransformersJudge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_vlm("qwen3-vl", tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def endpoint():
    def answer(request: Request) -> Response:
        content = json.loads(request.data)["messages"][0]["content"]
        digit = str(sum(len(json.dumps(part)) for part in content) % 9)
        top = [{"token": digit, "logprob": -0.1}]
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
        body = {"choices": [{"message": {"content": digit}, "logprobs": logprobs}]}
        return Response(json.dumps(body), content_type="application/json")

    with HTTPServer(threaded=True) as server:
        server.expect_request("/v1/chat/completions").respond_with_handler(answer)
        yield server.url_for("/v1")


# The judges are built when a check first asks, since the model folder and the server are fixtures.
_WHERE: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _where(folder, endpoint, monkeypatch):
    _WHERE.update(model=str(folder), base_url=endpoint)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def local_judge() -> TransformersJudge:
    return TransformersJudge(model=_WHERE["model"], min_mass=0.0)


def endpoint_judge() -> OpenAIJudge:
    return OpenAIJudge(base_url=_WHERE["base_url"], model="tiny")


ENDPOINT_SKIP = {"hostile-text": "the stand-in endpoint grades by the length of what it is sent"}


@pytest.mark.parametrize("check", judge_checks(local_judge, tolerance=0.0), ids=str)
def test_local_model(check):
    check()


@pytest.mark.parametrize("check", judge_checks(endpoint_judge, tolerance=0.0, skip=ENDPOINT_SKIP), ids=str)
def test_endpoint(check):
    check()
