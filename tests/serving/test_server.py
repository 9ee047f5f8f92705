"""The server: scores, ids, limits, back-pressure, deadlines, lost workers and lost clients."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards import Scorer
from worldr1_rewards.serving.answers import decode_answer
from worldr1_rewards.serving.job_queue import JobQueue
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.requests import encode_request
from worldr1_rewards.serving.server import ListenSettings
from worldr1_rewards.serving.wire_errors import RequestFailed
from worldr1_rewards.serving.worker_process import worker_environment

REWARDS = ["contrast", "motion"]


def body_of(clips, rewards=REWARDS, **options) -> bytes:
    return b"".join(encode_request(clips, rewards, **options))


def post(server, body: bytes, request_id: str = "request-0", **headers) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/score", content=body, headers={"X-Request-ID": request_id, **headers}, timeout=20
    )


def wait_until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_scores_are_those_of_this_process(server, make_clip):
    clips = [make_clip(seed, prompt="Camera push in.") for seed in range(3)]
    scored = server.client().score(clips, REWARDS)
    own = list(ScoringEngine(Scorer(REWARDS).components).score(clips, batch_size=3))
    for remote, local in zip(scored, own, strict=True):
        assert {name: (s.value, s.details) for name, s in remote.scores.items()} == {
            name: (s.value, s.details) for name, s in local.scores.items()
        }


def test_a_repeated_id_is_answered_from_memory(server, make_clip):
    body = body_of([make_clip()])
    first, second = post(server, body), post(server, body)
    assert (first.status_code, first.content) == (200, second.content)
    assert server.worker.batches == [1]


def test_an_id_under_way_is_not_scored_twice(server, make_clip):
    body = body_of([make_clip()])
    server.worker.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(post, server, body) for _ in range(2)]
        wait_until(lambda: server.service.queue.num_requests == 2)
        server.worker.gate.set()
        first, second = (answer.result() for answer in answers)
    assert (first.status_code, first.content) == (200, second.content)
    assert server.worker.batches == [1]


def test_an_id_with_another_body_is_refused(server, make_clip):
    post(server, body_of([make_clip()]))
    answer = post(server, body_of([make_clip(1)]))
    assert (answer.status_code, answer.json()["code"]) == (409, "id_reused")


def test_requests_that_wait_are_scored_together(server, make_clip):
    clips = [make_clip(seed) for seed in range(4)]
    server.worker.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        requests = enumerate(body_of([clip]) for clip in clips)
        answers = [pool.submit(post, server, body, f"request-{i}") for i, body in itertools.islice(requests, 1)]
        wait_until(lambda: server.worker.batches)  # the first one is scored alone
        answers += [pool.submit(post, server, body, f"request-{i}") for i, body in requests]
        wait_until(lambda: len(server.service.queue) == 3)
        server.worker.gate.set()
        bodies = [answer.result().content for answer in answers]
    assert server.worker.batches == [1, 3]
    own = [result.scores["contrast"].value for result in Scorer(REWARDS).score(clips)]
    assert [decode_answer(memoryview(body), REWARDS, 1)[0].scores["contrast"].value for body in bodies] == own


def test_a_full_queue_is_answered_with_429(start_server, make_clip):
    server = start_server(max_requests=1)
    server.worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server, body_of([make_clip()]))
        wait_until(lambda: server.worker.batches)
        second = post(server, body_of([make_clip()]), "request-1")
        assert (second.status_code, second.json()["code"]) == (429, "busy")
        assert int(second.headers["Retry-After"]) == 1  # nothing is known about how long a request takes
        server.worker.gate.set()
        assert first.result().status_code == 200


def test_bodies_are_bounded_together(start_server, make_clip):
    body = body_of([make_clip()])
    server = start_server(max_queued_bytes=len(body) + 10)
    server.worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, server, body)
        wait_until(lambda: server.worker.batches)
        assert post(server, body, "request-1").status_code == 429
        server.worker.gate.set()
        assert first.result().status_code == 200
    assert post(server, body, "request-2").status_code == 200


def test_a_deadline_ends_the_wait(server, make_clip):
    server.worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, server, body_of([make_clip()]))
        wait_until(lambda: server.worker.batches)
        answer = post(server, body_of([make_clip(1)]), "request-1", **{"X-Timeout-Seconds": "0.2"})
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline")
        assert len(server.service.queue) == 0
        server.worker.gate.set()
        assert running.result().status_code == 200
    assert server.worker.batches == [1]


def test_a_client_that_is_gone_is_not_scored(server, make_clip):
    server.worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, server, body_of([make_clip()]))
        wait_until(lambda: server.worker.batches)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{server.url}/v1/score",
                content=body_of([make_clip(1)]),
                headers={"X-Request-ID": "request-1"},
                timeout=0.3,
            )
        wait_until(lambda: len(server.service.queue) == 0 and server.service.queue.num_requests == 1)
        server.worker.gate.set()
        assert running.result().status_code == 200
    assert server.worker.batches == [1]


def test_a_body_that_is_cut_off_leaves_nothing_behind(server, make_clip):
    body = body_of([make_clip()])
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nX-Request-ID: request-0\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
        wait_until(lambda: server.service.queue.num_requests == 1)
    wait_until(lambda: server.service.queue.num_requests == 0)
    assert server.worker.batches == []
    assert post(server, body).status_code == 200


def test_a_lost_worker_is_a_reason_and_is_replaced(server, make_clip):
    server.worker.lose = 1
    answer = post(server, body_of([make_clip()]))
    assert (answer.status_code, answer.json()["code"]) == (502, "worker_lost")
    assert "signal 9" in answer.json()["message"]
    wait_until(lambda: server.service.is_ready)
    assert post(server, body_of([make_clip()])).status_code == 200


def test_the_client_asks_again_after_a_lost_worker(server, make_clip):
    server.worker.lose = 1
    (scored,) = server.client().score([make_clip()], ["contrast"])
    assert scored.scores["contrast"].reason is None


def test_a_request_that_takes_down_workers_is_given_up(server, make_clip):
    server.worker.lose = 100
    with pytest.raises(RequestFailed, match="signal 9"):
        server.client().score([make_clip()], ["contrast"])
    assert len(server.worker.batches) == 3


def test_many_clients_lose_nothing_under_back_pressure(start_server, make_clip):
    server = start_server(max_requests=3)
    client = server.client()
    clips = [make_clip(seed, f"clip {seed}") for seed in range(24)]
    with ThreadPoolExecutor(24) as pool:
        scored = list(pool.map(lambda clip: client.score([clip], ["contrast"])[0], clips))
    own = [result.scores["contrast"].value for result in Scorer(["contrast"]).score(clips)]
    assert [one.scores["contrast"].value for one in scored] == own
    assert sum(server.worker.batches) == 24


@pytest.mark.parametrize(
    ("options", "headers", "status", "code"),
    [
        ({"limits": Limits(body_bytes=1024)}, {}, 413, "too_large"),
        ({"limits": Limits(clips=1)}, {}, 413, "too_large"),
        ({}, {"X-Request-ID": "short"}, 400, "malformed"),
        ({}, {"X-Timeout-Seconds": "nan"}, 400, "malformed"),
        ({}, {"X-Timeout-Seconds": "-1"}, 400, "malformed"),
    ],
)
def test_what_is_not_allowed_is_refused(start_server, make_clip, options, headers, status, code):
    server = start_server(**options)
    answer = post(server, body_of([make_clip(), make_clip(1)]), **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert server.worker.batches == []


def test_a_body_without_its_size_is_refused(server):
    answer = httpx.post(f"{server.url}/v1/score", content=iter([b"x"]), headers={"X-Request-ID": "request-0"})
    assert answer.status_code == 411


def test_unknown_rewards_and_compositions_are_refused(server, make_clip):
    answer = post(server, body_of([make_clip()], ["trajectory"]))
    assert (answer.status_code, answer.json()["code"]) == (422, "not_usable")
    answer = post(server, body_of([make_clip()], composition="another"), "request-1")
    assert (answer.status_code, answer.json()["code"]) == (409, "other_composition")


def test_a_server_with_a_token_refuses_others(start_server, make_clip):
    server = start_server(token="secret-token")
    body = body_of([make_clip()])
    assert post(server, body).status_code == 401
    assert post(server, body, Authorization="Bearer wrong").status_code == 401
    assert post(server, body, Authorization="Bearer secret-token").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert server.client(token="secret-token").composition().composition.rewards.keys() == {"contrast", "motion"}


def test_a_reward_that_fails_is_a_missing_score(start_server, make_reward, tmp_path, make_clip):
    def fail(clip, inputs):
        raise ScoreUnavailable("no texture")

    make_reward("test-fails", fail)
    make_reward("test-nan", lambda clip, inputs: float("nan"))
    path = tmp_path / "failing.yaml"
    path.write_text("version: 1\ndevice: cpu\nrewards: [{name: test-fails}, {name: test-nan}]\n")
    (scored,) = start_server(path=path).client().score([make_clip()], ["test-fails", "test-nan"])
    assert scored.scores["test-fails"].reason == "no texture"
    assert scored.scores["test-nan"].reason == "reward 'test-nan' returned nan without a reason"


def test_a_server_runs_what_its_manifest_places_elsewhere(start_server, manifest, make_clip):
    away = "placement: {name: endpoint, url: 'http://127.0.0.1:9'}"
    manifest.write_text(
        f"version: 1\ndevice: cpu\nreconstructor: {{name: direct, {away}}}\n"
        f"rewards: [{{name: contrast, {away}}}, {{name: trajectory}}]\n"
    )
    (scored,) = start_server().client().score([make_clip()], ["contrast"])
    assert scored.scores["contrast"].reason is None


def test_the_process_that_holds_the_connections_imports_no_torch():
    code = "import sys, worldr1_rewards.serving.server; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_metrics_count_requests(server, make_clip):
    post(server, body_of([make_clip(), make_clip(1)]))
    post(server, body_of([make_clip()]), "request-0")
    families = {f.name: f for f in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)}
    counts = {s.labels["code"]: s.value for s in families["worldr1_requests"].samples if s.name.endswith("_total")}
    assert counts == {"ok": 1, "id_reused": 1}
    assert families["worldr1_clips"].samples[0].value == 2
    assert families["worldr1_ready_workers"].samples[0].value == 1


def test_the_routes_are_described(server):
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert {"/v1/score", "/v1/composition", "/healthz", "/readyz", "/metrics"} <= document["paths"].keys()
    score = document["paths"]["/v1/score"]["post"]
    assert {"200", "400", "409", "411", "413", "422", "429", "500", "502", "503", "504"} <= score["responses"].keys()
    assert "application/vnd.worldr1.v1+safetensors" in score["requestBody"]["content"]


def test_an_address_that_strangers_reach_needs_a_token():
    with pytest.raises(UserError, match="token"):
        ListenSettings(host="0.0.0.0").check()
    ListenSettings(host="0.0.0.0", token="secret").check()


def test_a_stopped_server_finishes_what_it_has_begun(server, make_clip):
    server.worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, server, body_of([make_clip()]))
        wait_until(lambda: server.worker.batches)
        server.begin_to_stop()
        time.sleep(0.5)
        with pytest.raises(httpx.ConnectError):
            post(server, body_of([make_clip(1)]), "request-1")
        server.worker.gate.set()
        assert running.result().status_code == 200


def test_workers_keep_freed_memory_unless_the_user_decides_otherwise():
    found = worker_environment({"HOME": "/home/me", "MALLOC_TRIM_THRESHOLD_": "0"})
    assert found["HOME"] == "/home/me"
    assert found["MALLOC_TRIM_THRESHOLD_"] == "0"
    assert int(found["MALLOC_MMAP_THRESHOLD_"]) == 256 * 2**20


def test_the_time_after_which_a_client_comes_back_does_not_follow_one_slow_batch():
    queue = JobQueue(100, 10**9, 8, is_alone=lambda job: False, drop=lambda job: None)
    for _ in range(100):
        queue.admit(1)
    for seconds in (60.0, 0.1, 0.1, 0.1):  # the first batch loads the model
        queue.note_seconds(seconds)
    with pytest.raises(RequestFailed) as caught:
        queue.admit(1)
    assert caught.value.retry_after == 5  # 50 of the 100 requests are done then
