"""Recorded answers of an endpoint, given again without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pytest_httpserver import HTTPServer

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import JudgeRequest
from worldr1_rewards.judges.openai_judge import OpenAIJudge

PATH = "/v1/chat/completions"
NOWHERE = "http://localhost:9/v1"


def request(grey: float, text: str = "Grade it.") -> JudgeRequest:
    return JudgeRequest(torch.full((1, 3, 4, 4), grey), text)


def answer(digit: int) -> dict:
    token = {"token": str(digit), "logprob": -0.01, "top_logprobs": [{"token": str(digit), "logprob": -0.01}]}
    return {"choices": [{"message": {"content": str(digit)}, "logprobs": {"content": [token]}}]}


@pytest.fixture
def recorded(httpserver: HTTPServer, tmp_path: Path) -> Path:
    """Two answers, each to its own picture."""
    path = tmp_path / "answers.jsonl"
    judge = OpenAIJudge(base_url=httpserver.url_for("/v1"), model="tiny", recording=str(path), concurrency=1)
    for grey, digit in ((0.25, 3), (0.75, 8)):
        httpserver.expect_oneshot_request(PATH).respond_with_json(answer(digit))
        (result,) = judge.grade([request(grey)])
        assert result.score == pytest.approx(digit / 9)
    return path


def test_the_same_questions_get_the_same_results_without_the_endpoint(recorded: Path) -> None:
    judge = OpenAIJudge(base_url=NOWHERE, model="tiny", recording=str(recorded), replay=True)
    second, first = judge.grade([request(0.75), request(0.25)])
    assert (first.score, second.score) == (pytest.approx(3 / 9), pytest.approx(8 / 9))
    assert first.source == "logprobs"


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (request(0.5), {}),
        (request(0.25, "Grade it again."), {}),
        (request(0.25), {"model": "other"}),
        (request(0.25), {"top_logprobs": 5}),
    ],
)
def test_another_question_has_no_grade(recorded: Path, asked: JudgeRequest, options: dict) -> None:
    settings = {"base_url": NOWHERE, "model": "tiny", "recording": str(recorded), "replay": True, **options}
    (result,) = OpenAIJudge(**settings).grade([asked])
    assert isinstance(result, ScoreUnavailable)
    assert "holds no answer" in str(result)


@pytest.mark.parametrize(("text", "grade"), [("**7**", 7 / 9), ("A 3D room.", None)])
def test_a_recorded_text_is_read_as_the_endpoints_own(
    httpserver: HTTPServer, tmp_path: Path, text: str, grade: float | None
) -> None:
    httpserver.expect_request(PATH).respond_with_json({"choices": [{"message": {"content": text}}]})
    path = tmp_path / "answers.jsonl"
    OpenAIJudge(base_url=httpserver.url_for("/v1"), model="tiny", recording=str(path)).grade([request(0.5)])
    replayed = OpenAIJudge(base_url=NOWHERE, model="tiny", recording=str(path), replay=True)
    (result,) = replayed.grade([request(0.5)])
    assert getattr(result, "score", None) == (None if grade is None else pytest.approx(grade))


def test_failed_requests_are_not_recorded(httpserver: HTTPServer, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    httpserver.expect_request(PATH).respond_with_data("busy", status=500)
    judge = OpenAIJudge(base_url=httpserver.url_for("/v1"), model="tiny", recording=str(path), max_retries=0)
    (result,) = judge.grade([request(0.5)])
    assert isinstance(result, ScoreUnavailable)
    assert not path.exists()


def test_a_recording_holds_no_picture_and_no_key(recorded: Path) -> None:
    lines = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["answer", "request"]] * 2
    assert all(len(line["request"]) == 64 for line in lines)


def test_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the recording"):
        OpenAIJudge(replay=True)
    with pytest.raises(UserError, match="Record it first"):
        OpenAIJudge(replay=True, recording=str(tmp_path / "absent.jsonl"))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"request": "x"}\n')
    with pytest.raises(UserError, match="line 1"):
        OpenAIJudge(replay=True, recording=str(broken))


def test_a_recording_that_is_no_text_is_explained(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"answers\.jsonl' cannot be read"):
        OpenAIJudge(base_url=NOWHERE, recording=str(path), replay=True)
