"""Faults of real processes: no score is wrong or lost afterwards, and the log says what happened."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cutting_proxy import CuttingProxy

from serving.processes import (
    REWARD,
    ServerProcess,
    children,
    install_plugin,
    is_running,
    make_clip,
    score_of,
    wait_until,
)
from worldr1_core.video_io import write_video
from worldr1_rewards.serving.requests import encode_request
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    return install_plugin(tmp_path_factory.mktemp("site") / "site")


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory, environment) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("server"), environment)
    yield server
    server.stop()


@pytest.fixture
def server(shared_server) -> ServerProcess:
    """One server for the faults that it has to survive, with a worker that is ready."""
    wait_until(lambda: shared_server.metric("ready_workers") == 1)
    return shared_server


def test_nan_of_a_reward_is_a_reason(server):
    assert "nan without a reason" in score_of(server.client(), make_clip("nan"))


def test_a_worker_without_memory_says_so_and_goes_on(server):
    client, worker = server.client(), server.worker
    assert score_of(client, make_clip("limit 256")) == 0.25
    assert "memory" in score_of(client, make_clip("allocate 4096"))
    large = make_clip(size=3000, level=96)  # 216 MB as float32, twice: decoded here, and copied by the reward
    with pytest.raises(RequestFailed, match="memory") as caught:
        client.score([large, large, large], [REWARD])
    assert caught.value.code is ErrorCode.FAILED
    assert score_of(client, make_clip(level=32)) == 0.125
    assert server.worker == worker
    os.kill(worker, signal.SIGKILL)  # so that other tests have a worker without a limit
    wait_until(lambda: server.metric("ready_workers") == 0)


def test_an_idle_worker_that_ends_is_replaced_before_it_costs_a_request(server):
    first, losses = server.worker, server.metric("worker_losses_total")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: server.metric("worker_losses_total") == losses + 1)
    wait_until(lambda: server.metric("ready_workers") == 1)
    assert server.post(make_clip(), "after-an-idle-loss").status_code == 200
    assert server.worker != first
    assert "the worker ended with signal 9" in server.log


def test_an_answer_after_its_deadline_is_not_given_and_not_lost(server, tmp_path):
    hold, scored = tmp_path / "hold", server.metric("clips_total")
    hold.touch()
    clip = make_clip(f"wait {hold}")
    assert server.post(clip, "late-request", seconds=0.5).status_code == 504
    hold.unlink()
    wait_until(lambda: server.metric("clips_total") == scored + 1)
    assert server.post(clip, "late-request").status_code == 200
    assert server.metric("clips_total") == scored + 1, "it is answered from memory"
    assert "code=deadline" in server.log


def test_a_request_that_is_cut_off_is_forgotten(server):
    body = b"".join(encode_request([make_clip(size=200)], [REWARD]))
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nX-Request-ID: cut-request\r\nContent-Length: {len(body)}\r\n\r\n"
    before = server.log.count("client disconnected")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        wait_until(lambda: server.metric("admitted_requests") == 1 or server.log.count("disconnected") > before)
    wait_until(lambda: server.log.count("client disconnected") == before + 1)
    assert server.metric("queued_requests") == 0
    assert score_of(server.client(), make_clip(level=128)) == 0.5


@pytest.mark.parametrize("direction", ["request", "answer"])
def test_a_connection_that_is_cut_in_the_middle_of_a_body_loses_nothing(server, direction):
    clip, scored = make_clip(size=300, level=160), server.metric("clips_total")
    with CuttingProxy(server.port) as proxy:
        client = server.client(proxy.url)
        client.composition()
        proxy.cut_next(direction, 100_000 if direction == "request" else 250)
        assert score_of(client, clip) == 0.625
        assert proxy.num_cut == 1
    assert server.metric("clips_total") == scored + 1, "it is scored once"


def test_two_hundred_clients_at_once_lose_nothing(server):
    scored, peak = server.metric("clips_total"), peak_mib(server.process.pid)
    client = server.client()
    clips = [make_clip(level=level % 256, size=128, name=f"clip {level}") for level in range(200)]
    with ThreadPoolExecutor(200) as pool:
        scores = list(pool.map(lambda clip: score_of(client, clip), clips))
    assert scores == [level % 256 / 256 for level in range(200)]
    assert server.metric("clips_total") == scored + 200, "none is scored twice"
    assert server.metric("repeated_requests_total") <= 2
    # Bodies of 100 kB: the server holds those of 64 requests at most, and neither keeps nor copies them.
    assert peak_mib(server.process.pid) < peak + 150


def peak_mib(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def can_mount() -> bool:
    program = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    try:
        return (
            subprocess.run(["unshare", "--mount", "sh", "-c", program], capture_output=True, check=False).returncode
            == 0
        )
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a small file system")
def test_a_full_disk_is_a_reason_and_leaves_room_for_others(tmp_path, environment):
    program = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    server = ServerProcess(tmp_path, environment, prefix=["unshare", "--mount", "sh", "-c", program, "sh"])
    try:
        with pytest.raises(RequestFailed, match="no room for the body") as caught:
            server.client(patience=0.5).score([make_clip(size=600)], [REWARD])
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert "no room for the body" in server.log
        assert score_of(server.client(), make_clip(level=192)) == 0.75
    finally:
        server.stop()


def test_sigterm_keeps_the_scores_that_are_finished(tmp_path, environment):
    for number in range(3):
        write_video(make_clip(level=64 + number).video, tmp_path / f"{number}.mp4")
    hold = tmp_path / "hold"
    hold.touch()
    (tmp_path / "2.json").write_text(json.dumps({"prompt": f"wait {hold}"}))
    manifest = tmp_path / "score.yaml"
    manifest.write_text(
        f"version: 1\ndevice: cpu\nrewards: [{{name: {REWARD}, placement: {{name: worker}}}}, {{name: contrast}}]\n"
    )
    program = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
    process = subprocess.Popen(
        [*program, "score", str(tmp_path), "--manifest", str(manifest)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = [process.stdout.readline() for _ in range(2)]
    (server,) = [child for child in children(process.pid) if is_running(child)]
    workers = children(server)
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    assert rest == ""
    records = [json.loads(line) for line in lines]
    assert [Path(record["video"]).name for record in records] == ["0.mp4", "1.mp4"]
    assert all(record["scores"][REWARD] is not None for record in records)
    wait_until(lambda: not any(is_running(pid) for pid in (server, *workers)))


def test_a_server_that_is_stopped_for_a_while_answers_afterwards(server):
    with ThreadPoolExecutor(1) as pool:
        os.kill(server.process.pid, signal.SIGSTOP)
        scored = pool.submit(score_of, server.client(), make_clip(level=224))
        time.sleep(1)
        os.kill(server.process.pid, signal.SIGCONT)
        assert scored.result(60) == 0.875
    assert httpx.get(f"{server.url}/healthz").status_code == 200
