"""Judges that run elsewhere: questions and grades cross the wire without loss, and what fails is a reason."""

from __future__ import annotations

import json
import math
import os
import signal

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.tiny_vlm import build_vlm
from serving.processes import wait_until
from serving.test_wire_format import assert_same
from worldr1_core.compose import compose_scoring
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, UserError
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.manifest import ComponentSpec, read_manifest_mapping
from worldr1_core.placement import JudgePart
from worldr1_core.plugins import installed
from worldr1_core.registry import register, unregister
from worldr1_core.reward import Requirement
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards.judges.transformers_judge import TransformersJudge
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.placements import EndpointPlacement, WorkerPlacement
from worldr1_rewards.serving.questions import (
    decode_grades,
    decode_questions,
    encode_grades,
    encode_questions,
    parse_questions,
)
from worldr1_rewards.serving.served import choose_served
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

LIMITS = Limits()


def question(*shape: int, text: str = "Grade it.", levels: bool = False, seed: int = 0) -> JudgeRequest:
    images = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return JudgeRequest((images * 255).round() / 255 if levels else images, text)


def body_of(*questions: JudgeRequest, **options) -> bytes:
    return b"".join(encode_questions(questions, **options))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.text(max_size=40), st.booleans()), min_size=1))
def test_questions_cross_the_wire_to_the_last_bit(drawn):
    sent = [question(n, 3, side, 5, text=text, levels=levels) for n, side, text, levels in drawn]
    body = memoryview(body_of(*sent))
    received = decode_questions(body, parse_questions(body, LIMITS))
    for own, other in zip(sent, received, strict=True):
        assert_same(own.images, other.images)
        assert own.text.encode("utf-8", "backslashreplace") == other.text.encode()


def test_grades_and_reasons_cross_the_wire():
    sent = [
        JudgeResult(1 / 3, 0.9999999999999999),
        JudgeResult(0.0, None, "text"),
        ScoreUnavailable("no digit"),
        ScoreNotApplicable("no move"),
        RuntimeError("out of memory"),
        JudgeResult(math.nan, 1.0),
        JudgeResult(1.5, 1.0),
    ]
    results = decode_grades(memoryview(encode_grades(sent)), len(sent))
    assert results[:2] == sent[:2]
    assert [type(result) for result in results[2:5]] == [ScoreUnavailable, ScoreNotApplicable, ScoreUnavailable]
    assert [str(result) for result in results[2:5]] == ["no digit", "no move", "RuntimeError: out of memory"]
    assert all("no grade in [0, 1]" in str(result) for result in results[5:])


@pytest.mark.parametrize(
    ("questions", "limits", "code"),
    [
        ([question(1, 3, 4, 4)] * 3, Limits(clips=2), ErrorCode.TOO_LARGE),
        ([question(3, 3, 4, 4)], Limits(frames=2), ErrorCode.TOO_LARGE),
        ([question(1, 3, 8, 8)], Limits(pixels=63), ErrorCode.TOO_LARGE),
        ([question(1, 3, 16, 16, levels=True)] * 2, Limits(decoded_bytes=2 * 3 * 256 * 4 - 1), ErrorCode.TOO_LARGE),
        ([question(1, 1, 4, 4)], Limits(), ErrorCode.MALFORMED),
    ],
)
def test_limits_of_clips_hold_for_questions(questions, limits, code):
    with pytest.raises(RequestFailed) as caught:
        parse_questions(memoryview(body_of(*questions)), limits)
    assert caught.value.code is code


def test_an_answer_to_other_questions_is_refused():
    with pytest.raises(RequestFailed, match="1 grades, and 2 questions"):
        decode_grades(memoryview(encode_grades([JudgeResult(0.5, None)])), 2)


class Grey(Judge):
    """Grades the mean of the images; a text with `fail` has no grade, and `stop` cannot be used at all."""

    calls: list[int]

    def grade(self, requests):
        Grey.calls.append(len(requests))
        if any("stop" in request.text for request in requests):
            raise UserError("no weights")
        return [
            ScoreUnavailable("it failed") if "fail" in request.text else JudgeResult(_mean(request), 0.75)
            for request in requests
        ]


def _mean(request: JudgeRequest) -> float:
    return float(request.images.double().mean())


@pytest.fixture
def grey():
    Grey.calls = []
    register("judge", "test-grey", Grey)
    yield "test-grey"
    unregister("judge", "test-grey")


@pytest.fixture
def asks(make_reward):
    """A reward that asks the judge about the first frame of a clip, with the prompt as the question."""

    def score(clip, inputs):
        (result,) = inputs.judge.grade([JudgeRequest(clip.video.frames[:1], clip.prompt)])
        if isinstance(result, Exception):
            raise result
        return result.score

    make_reward("test-asks", score, frozenset({Requirement.JUDGE}))
    return "test-asks"


def write(path, judge: dict, *rewards: str):
    document = {"version": 1, "device": "cpu", "judge": judge, "rewards": [{"name": name} for name in rewards]}
    path.write_text(json.dumps(document))
    return path


def at(url: str, **options) -> dict:
    return {"name": "endpoint", "url": url, "timeout": 20, "patience": 0, **options}


def engine_of(judge: dict, *rewards: str | dict) -> ScoringEngine:
    document = {
        "device": "cpu",
        "judge": judge,
        "rewards": [r if isinstance(r, dict) else {"name": r} for r in rewards],
    }
    registry = installed().registry
    return ScoringEngine(compose_scoring(read_manifest_mapping(document, registry), registry))


def judge_at(url: str, name: str, **options) -> Judge:
    part = JudgePart(judge=ComponentSpec(name=name, **options), seed=0, device="cpu", registry=installed().registry)
    return EndpointPlacement(url=url, timeout=20, patience=0).connect_judge(part).judge


@pytest.fixture
def judge_server(start_server, grey, tmp_path):
    return start_server(path=write(tmp_path / "judge.yaml", {"name": grey}), judge=True)


def test_grades_of_a_small_model_at_an_endpoint_are_those_of_this_process(start_server, asks, make_clip, tmp_path):
    judge = {"name": "transformers", "model": str(build_vlm("qwen3-vl", tmp_path / "vlm")), "min_mass": 0.0}
    server = start_server(path=write(tmp_path / "judge.yaml", judge), judge=True)
    clips = [make_clip(seed, prompt="Is it sharp?") for seed in range(3)]
    here = engine_of(judge, asks)
    there = engine_of({**judge, "placement": at(server.url)}, asks)
    own, remote = ([r.scores[asks].value for r in e.score(clips, batch_size=3)] for e in (here, there))
    assert len(set(own)) == 3
    assert own == remote


def test_a_question_without_a_grade_fails_alone(judge_server, grey):
    judge = judge_at(judge_server.url, grey)
    good, other = question(1, 3, 2, 2), question(2, 3, 4, 4, seed=2, levels=True)
    nan = JudgeRequest(torch.full((1, 3, 2, 2), math.nan), "Grade it.")
    first, failed, unusable, last = judge.grade([good, question(1, 3, 2, 2, text="fail"), nan, other])
    assert first == JudgeResult(_mean(good), 0.75)
    assert (type(failed), str(failed)) == (ScoreUnavailable, "it failed")
    assert "NaN" in str(unusable)
    assert last == JudgeResult(_mean(other), 0.75)
    assert Grey.calls == [3]


def test_a_judge_that_cannot_work_stops_the_run(judge_server, grey, asks, make_clip):
    engine = engine_of({"name": grey, "placement": at(judge_server.url)}, asks)
    with pytest.raises(UserError, match="no weights"):
        list(engine.score([make_clip(prompt="stop")]))


def test_a_server_that_is_gone_is_a_reason(judge_server, grey, asks, make_clip):
    engine = engine_of({"name": grey, "placement": at(judge_server.url)}, asks)
    judge_server.worker.lose = 99
    (result,) = engine.score([make_clip(prompt="Grade it.")])
    assert math.isnan(result.scores[asks].value)
    assert "the worker ended with signal 9" in result.scores[asks].reason


def test_options_of_the_judge_are_compared(start_server, asks, tmp_path):
    model = str(build_vlm("qwen3-vl", tmp_path / "vlm"))
    served = {"name": "transformers", "model": model, "min_mass": 0.1}
    server = start_server(path=write(tmp_path / "judge.yaml", served), judge=True)
    with pytest.raises(UserError, match=r"'min_mass' of its judge 'transformers' is 0\.1 instead of 0\.2"):
        engine_of({**served, "min_mass": 0.2, "placement": at(server.url)}, asks)


def test_a_server_without_its_judge_is_refused(start_server, grey, asks, tmp_path):
    server = start_server(path=write(tmp_path / "served.yaml", {"name": grey}, asks))
    with pytest.raises(UserError, match="does not serve its judge, which `worldr1 serve --judge` does"):
        engine_of({"name": grey, "placement": at(server.url)}, asks)
    answer = httpx.post(
        f"{server.url}/v1/grade", content=body_of(question(1, 3, 2, 2)), headers={"X-Request-ID": "request-1"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "not_usable")


def test_a_repeated_question_is_answered_from_memory(judge_server):
    answers = [
        httpx.post(
            f"{judge_server.url}/v1/grade",
            content=body_of(question(1, 3, 2, 2)),
            headers={"X-Request-ID": "request-1"},
            timeout=20,
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert Grey.calls == [1]


def test_questions_need_the_token(start_server, grey, tmp_path):
    server = start_server(path=write(tmp_path / "judge.yaml", {"name": grey}), judge=True, token="secret")
    answer = httpx.post(
        f"{server.url}/v1/grade", content=body_of(question(1, 3, 2, 2)), headers={"X-Request-ID": "request-1"}
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
    assert Grey.calls == []


def test_one_server_has_rewards_and_its_judge(start_server, grey, asks, make_clip, tmp_path):
    path = write(tmp_path / "served.yaml", {"name": grey}, asks, "contrast")
    server = start_server(path=path, judge=True, rewards=[asks])
    client = server.client()
    served = client.composition().composition
    assert (sorted(served.rewards), served.grades) == ([asks], True)
    clip = make_clip(prompt="Grade it.")
    (scored,) = client.score([clip], [asks])
    (graded,) = client.grade([JudgeRequest(clip.video.frames[:1], clip.prompt)])
    assert scored.scores[asks].value == graded.score == pytest.approx(float(clip.video.frames[0].double().mean()))


def test_rewards_of_a_server_ask_a_judge_of_another(start_server, judge_server, grey, asks, make_clip, tmp_path):
    path = write(tmp_path / "served.yaml", {"name": grey, "placement": at(judge_server.url)}, asks)
    rewards = start_server(path=path, ask_judge=True)
    engine = engine_of({"name": grey, "placement": at(judge_server.url)}, {"name": asks, "placement": at(rewards.url)})
    (result,) = engine.score([make_clip(prompt="Grade it.")])
    assert result.reasons == {}
    assert judge_server.worker.batches == [1]
    alone = start_server(path=path)  # ignores placements
    alone.client().score([make_clip(prompt="Grade it.")], [asks])
    assert judge_server.worker.batches == [1]


def test_a_manifest_without_a_judge_has_none_to_serve():
    registry = installed().registry
    manifest = read_manifest_mapping({"rewards": [{"name": "contrast"}]}, registry)
    with pytest.raises(UserError, match="names no judge to serve"):
        choose_served(manifest, None, registry, judge=True)


@pytest.mark.slow
def test_a_judge_that_is_killed_is_started_again(tmp_path):
    model = str(build_vlm("qwen3-vl", tmp_path / "vlm"))
    spec = ComponentSpec(name="transformers", model=model, min_mass=0.0)
    part = JudgePart(judge=spec, seed=0, device="cpu", registry=installed().registry)
    connected = WorkerPlacement(start_timeout=200).connect_judge(part)
    judge = connected.judge
    address = EndpointPlacement(**connected.address.options)  # as a worker with rewards finds it
    elsewhere = address.connect_judge(part).judge
    questions = [question(1, 3, 40, 56), question(2, 3, 32, 32, text="Which?")]
    try:
        own = TransformersJudge(model=model, min_mass=0.0).grade(questions)
        for asked in (judge, elsewhere):
            assert asked.grade(questions) == own
            pid = judge.pid
            os.kill(pid, signal.SIGKILL)
            assert asked.grade(questions) == own
            assert judge.pid != pid
        killed = []

        def ask_and_kill():
            """The server dies while the question is under way, and is there again before it is given up."""
            if not killed:
                killed.append(judge.pid)
                os.kill(judge.pid, signal.SIGKILL)
                wait_until(lambda: judge.pid != killed[0], 100)
                raise ScoreUnavailable("gone")
            return judge.pid

        assert judge._server.ask(ask_and_kill) == judge.pid
    finally:
        judge.close()
    (after,) = judge.grade(questions[:1])
    assert isinstance(after, ScoreUnavailable)
