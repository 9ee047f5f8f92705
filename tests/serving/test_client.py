"""The client: other servers take over, silence is noticed, and a lost score is missing with its reason."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from cutting_proxy import CuttingProxy

from worldr1_core.compose import compose_scoring
from worldr1_core.errors import ScoreUnavailable, UserError, WorldR1Error
from worldr1_core.manifest import read_manifest_mapping
from worldr1_core.plugins import installed
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards import Scorer
from worldr1_rewards.serving import http_exchange
from worldr1_rewards.serving.answers import encode_answer
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.endpoints import EndpointChoice
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

CLOSED = "http://127.0.0.1:9"
"""An address at which nothing listens."""


def _read_request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(2**16)
    head, _, body = received.partition(b"\r\n\r\n")
    size = re.search(rb"(?i)content-length: (\d+)", head)
    remaining = int(size[1]) - len(body) if size else 0
    while remaining > 0:
        remaining -= len(connection.recv(2**16))


@contextmanager
def raw_server(answer: bytes | None) -> Iterator[str]:
    """A server that reads a request and sends these bytes, or says nothing if `answer` is `None`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                if answer is not None:
                    _read_request(connection)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def client_of(*urls: str, **options) -> ScoringClient:
    return ScoringClient(ClientSettings(**{"urls": urls, "timeout": 20.0, "patience": 0.5, **options}))


def http_answer(body: bytes, declared: int | None = None) -> bytes:
    size = len(body) if declared is None else declared
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode() + body


def test_another_server_takes_over(server, make_clip):
    client = client_of(CLOSED, server.url)
    for seed in range(4):
        (scored,) = client.score([make_clip(seed)], ["contrast"])
        assert scored.scores["contrast"].reason is None


def test_a_server_that_cannot_be_reached_is_a_reason(make_clip):
    with pytest.raises(RequestFailed, match=r"127\.0\.0\.1:9") as caught:
        client_of(CLOSED).score([make_clip()], ["contrast"])
    assert caught.value.code is ErrorCode.UNAVAILABLE


def test_a_server_that_falls_silent_is_noticed(server, make_clip, monkeypatch):
    monkeypatch.setattr(http_exchange, "WATCH_SECONDS", 0.1)
    with raw_server(None) as silent:
        with pytest.raises(RequestFailed, match="stopped answering"):
            client_of(silent).score([make_clip()], ["contrast"])
        (scored,) = client_of(silent, server.url).score([make_clip()], ["contrast"])
        assert scored.scores["contrast"].reason is None


def test_a_deadline_holds_whatever_the_server_does(make_clip):
    with raw_server(None) as silent, pytest.raises(RequestFailed, match=r"within 0\.3 s") as caught:
        client_of(silent, timeout=0.3).score([make_clip()], ["contrast"])
    assert caught.value.code is ErrorCode.DEADLINE


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"no safetensors"),
        http_answer(struct.pack("<Q", 2**40)),
        http_answer(b"half", declared=1000),
        http_answer(b"", declared=2**40),
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"no HTTP at all",
        b"",
    ],
)
def test_a_broken_answer_is_never_a_score(make_clip, answer):
    with raw_server(answer) as url, pytest.raises(RequestFailed):
        client_of(url).score([make_clip()], ["contrast"])


def test_an_answer_of_nan_is_never_a_score(make_clip, server):
    from worldr1_core.placement import ScoredClip
    from worldr1_core.reward import Score

    body = encode_answer([ScoredClip({"contrast": Score(0.5)})])
    broken = body.replace(b'\\"value\\":0.5', b'\\"value\\":NaN')
    assert broken != body
    with raw_server(http_answer(broken)) as url, pytest.raises(RequestFailed, match="not valid"):
        client_of(url).score([make_clip()], ["contrast"])


def test_the_server_with_fewer_requests_is_asked():
    choice = EndpointChoice(["a", "b", "c"])
    for endpoint, count in zip(choice.endpoints, (2, 1, 3), strict=True):
        endpoint.num_under_way = count
    assert choice.next()[0].url == "b"
    choice.endpoints[1].note_failure(5)
    assert choice.next()[0].url == "a"
    choice.endpoints[1].note_answer()
    assert choice.next() == (choice.endpoints[1], 0.0)


def test_a_server_that_keeps_failing_is_left_alone_for_longer():
    (endpoint,) = EndpointChoice(["a"]).endpoints
    rests = []
    for _ in range(3):
        endpoint.note_failure()
        rests.append(endpoint.rest)
    assert rests[0] < rests[1] < rests[2] <= 10


def composed(url: str | list[str], rewards: list[dict], **options):
    placement = {"name": "endpoint", "url": url, "timeout": 40, "patience": 20, **options}
    document = {"device": "cpu", "rewards": [{**reward, "placement": placement} for reward in rewards]}
    registry = installed().registry
    return ScoringEngine(compose_scoring(read_manifest_mapping(document, registry), registry))


def test_a_manifest_with_an_endpoint_scores_as_one_without(server, make_clip):
    clips = [make_clip(seed, prompt="Camera push in.") for seed in range(3)]
    rewards = [{"name": "contrast", "weight": 0.5}, {"name": "motion"}]
    remote = list(composed(server.url, rewards).score(clips, batch_size=2))
    local = list(Scorer([("contrast", 0.5), "motion"]).score(clips, batch_size=2))
    for one, other in zip(remote, local, strict=True):
        assert (one.total, one.scores, one.reasons) == (other.total, other.scores, other.reasons)
    assert server.worker.batches == [1, 1]  # both rewards of a batch in one request


def test_a_lost_reward_is_missing_and_the_others_count(server, make_clip):
    engine = composed(server.url, [{"name": "contrast"}, {"name": "motion"}])
    server.worker.lose = 100
    (result,) = engine.score([make_clip()])
    assert "signal 9" in result.reasons["contrast"]
    assert result.reasons["total"] == "no score of contrast, motion"


def test_other_options_on_the_server_are_refused(start_server, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("version: 1\ndevice: cpu\nrewards: [{name: statistics-threshold, contrast: 0.2}]\n")
    server = start_server(path=path)
    with pytest.raises(UserError, match=r"'contrast' of its reward 'statistics-threshold' is 0.2 instead of 0.3"):
        composed(server.url, [{"name": "statistics-threshold", "contrast": 0.3}])
    with pytest.raises(UserError, match="does not serve the reward 'motion'"):
        composed(server.url, [{"name": "motion"}])
    assert composed(server.url, [{"name": "statistics-threshold", "contrast": 0.2}])


def test_a_server_that_is_started_with_other_options_is_noticed(start_server, tmp_path, make_clip):
    path = tmp_path / "other.yaml"
    path.write_text("version: 1\ndevice: cpu\nrewards: [{name: statistics-threshold, contrast: 0.2}]\n")
    server = start_server(path=path)
    engine = composed(server.url, [{"name": "statistics-threshold", "contrast": 0.2}])
    path.write_text(path.read_text().replace("0.2", "0.25"))
    server.worker.start(1)
    with pytest.raises(UserError, match=r"is 0.25 instead of 0.2"):
        list(engine.score([make_clip()]))


def test_a_wrong_token_stops_the_run(start_server, monkeypatch):
    server = start_server(token="right")
    monkeypatch.setenv("TEST_TOKEN", "wrong")
    with pytest.raises(UserError, match="needs its token"):
        composed(server.url, [{"name": "contrast"}], token_env="TEST_TOKEN")
    monkeypatch.setenv("TEST_TOKEN", "right")
    assert composed(server.url, [{"name": "contrast"}], token_env="TEST_TOKEN")


def test_a_reward_without_weights_there_stops_the_run(start_server, make_reward, tmp_path, make_clip):
    def fail(clip, inputs):
        raise UserError("The weights are missing.")

    make_reward("test-weights", fail)
    path = tmp_path / "weights.yaml"
    path.write_text("version: 1\ndevice: cpu\nrewards: [{name: test-weights}]\n")
    engine = composed(start_server(path=path).url, [{"name": "test-weights"}])
    with pytest.raises(UserError, match="The weights are missing"):
        list(engine.score([make_clip()]))


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://user:password@host", "host:80", "http://host/?a=1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UserError, match="url of an endpoint"):
        composed(url, [{"name": "contrast"}])


def test_no_server_at_the_start_is_an_error():
    with pytest.raises(WorldR1Error, match=r"127\.0\.0\.1:9") as caught:
        composed(CLOSED, [{"name": "contrast"}], patience=0)
    assert not isinstance(caught.value, ScoreUnavailable)


@pytest.mark.slow
def test_connections_that_break_again_and_again_lose_no_score_within_the_patience(server, make_clip):
    with CuttingProxy(int(server.url.rpartition(":")[2])) as proxy:
        client = server.client(urls=[proxy.url])
        client.composition()
        scored = []
        with ThreadPoolExecutor(1) as pool:
            server.worker.gate.clear()
            running = pool.submit(lambda: scored.append(client.score([make_clip()], ["contrast"])))
            for number in range(1, 6):
                proxy.cut_next("request", 100)
                while proxy.num_cut < number:
                    assert not running.done()
                    time.sleep(0.01)
            server.worker.gate.set()
            running.result()
    assert scored[0][0].scores["contrast"].reason is None


def test_a_client_sends_no_more_at_once_than_the_server_admits(start_server, make_clip):
    server = start_server(max_requests=2)
    client = server.client()
    assert client.composition().max_requests == 2
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda seed: client.score([make_clip(seed)], ["contrast"]), range(12)))
    assert all(scored.scores["contrast"].reason is None for (scored,) in found)
    assert 'code="busy"' not in server.service.metrics.text().decode()


def test_requests_under_way_share_one_watch(server, make_clip, monkeypatch):
    monkeypatch.setattr(http_exchange, "WATCH_SECONDS", 0.1)
    looks, at_once = [], [0, 0]
    is_alive = http_exchange.HttpEndpoint._is_alive

    async def counted(self) -> bool:
        at_once[0] += 1
        at_once[1] = max(at_once)
        looks.append(await is_alive(self))
        at_once[0] -= 1
        return looks[-1]

    monkeypatch.setattr(http_exchange.HttpEndpoint, "_is_alive", counted)
    client = server.client()
    server.worker.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(client.score, [make_clip(seed)], ["contrast"]) for seed in range(8)]
        end = time.monotonic() + 20
        while len(looks) < 5:
            assert time.monotonic() < end
            time.sleep(0.05)
        server.worker.gate.set()
        assert all(answer.result()[0].scores["contrast"].reason is None for answer in answers)
    assert all(looks)
    assert at_once[1] == 1
