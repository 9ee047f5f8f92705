"""Servers and workers as real processes: what happens to them, and that no score is wrong afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving.processes import REWARD, ServerProcess, children, install_plugin, is_running, make_clip, wait_until
from worldr1_core.clip import Clip
from worldr1_rewards import Scorer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes in /proc"),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return install_plugin(tmp_path / "site")


@pytest.fixture
def server(tmp_path: Path, environment) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, environment)
    yield server
    server.stop()


def clip_that_waits(file: Path) -> Clip:
    file.touch()
    return make_clip(f"wait {file}", name="waits")


def busy(server: ServerProcess) -> bool:
    text = httpx.get(f"{server.url}/metrics").text
    return "worldr1_admitted_requests 1.0" in text and "worldr1_batch_clips_count 1.0" in text


def test_a_worker_has_the_settings_of_its_allocator(server):
    variables = Path(f"/proc/{server.worker}/environ").read_bytes().split(b"\0")
    assert b"MALLOC_MMAP_THRESHOLD_=268435456" in variables


def test_a_worker_that_is_killed_is_a_reason_and_is_replaced(server, tmp_path):
    clip, first = clip_that_waits(tmp_path / "go"), server.worker
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, clip, "request-0")
        wait_until(lambda: busy(server))
        os.kill(first, signal.SIGKILL)
        assert answer.result().status_code == 502
    assert "signal 9" in answer.result().json()["message"]
    (tmp_path / "go").unlink()
    (scored,) = server.client().score([clip], [REWARD])
    assert scored.scores[REWARD].value == 0.25
    assert server.worker != first


def test_a_worker_that_is_stopped_misses_its_deadline_and_is_replaced(server, tmp_path):
    clip, first = clip_that_waits(tmp_path / "go"), server.worker
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, clip, "request-0", 3)
        wait_until(lambda: busy(server))
        os.kill(first, signal.SIGSTOP)
        assert answer.result().status_code == 504
    (tmp_path / "go").unlink()
    wait_until(lambda: not is_running(first))
    (scored,) = server.client().score([clip], [REWARD])
    assert scored.scores[REWARD].value == 0.25


def test_sigterm_finishes_what_was_begun(server, tmp_path):
    clip, worker = clip_that_waits(tmp_path / "go"), server.worker
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, clip, "request-0")
        wait_until(lambda: busy(server))
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        (tmp_path / "go").unlink()
        assert answer.result().status_code == 200
    assert server.process.wait(60) == 0
    assert not is_running(worker)


def test_a_server_that_is_started_again_answers_the_waiting_client(tmp_path, environment):
    first = ServerProcess(tmp_path, environment)
    port = first.url.rpartition(":")[2]
    clip = clip_that_waits(tmp_path / "go")
    with ThreadPoolExecutor(1) as pool:
        scored = pool.submit(first.client().score, [clip], [REWARD])
        wait_until(lambda: busy(first))
        worker = first.worker
        first.process.kill()
        first.process.wait()
        wait_until(lambda: not is_running(worker))  # it has lost its server
        (tmp_path / "go").unlink()
        command = [*first.process.args[:-1], port]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as second:
            assert scored.result()[0].scores[REWARD].value == 0.25
            second.terminate()


MANIFEST = {
    "device": "cpu",
    "reconstructor": {"name": "direct", "placement": {"name": "worker"}},
    "rewards": [{"name": "reconstruction"}, {"name": "trajectory", "weight": 0.5}, {"name": "contrast"}],
}


def in_process(manifest: dict) -> dict:
    document = json.loads(json.dumps(manifest))
    del document["reconstructor"]["placement"]
    return document


def test_a_worker_scores_to_the_last_bit_as_this_process_does():
    video = "examples/clips/push_in.mp4"
    prompt = "Camera push in. A room with boxes."
    own = Scorer(manifest=in_process(MANIFEST))(video, prompt=prompt)
    scorer = Scorer(manifest=MANIFEST)
    remote = scorer(video, prompt=prompt)
    assert {key: own[key] for key in own if key != "timings"} == {key: remote[key] for key in own if key != "timings"}
    assert remote["timings"].keys() == own["timings"].keys()
    # The worker is killed and started again without a lost score.
    worker = scorer.components.rewards[0].reward.scorer
    pid = worker.pid
    os.kill(pid, signal.SIGKILL)
    assert scorer(video, prompt=prompt)["scores"] == own["scores"]
    assert worker.pid != pid
    worker.close()
    assert not is_running(worker.pid)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = (
        "import sys, time; from worldr1_rewards import Scorer\n"
        "s = Scorer(manifest={'device': 'cpu', 'rewards': [{'name': 'contrast', 'placement': {'name': 'worker'}}]})\n"
        "print(s.components.rewards[0].reward.scorer.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    server = int(parent.stdout.readline())
    (worker,) = children(server)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(server) and not is_running(worker), 30)


def test_a_worker_that_cannot_be_composed_says_why():
    from worldr1_core.errors import UserError

    manifest = {
        "device": "cpu",
        "rewards": [{"name": "preference", "placement": {"name": "worker", "torch_device": "cuda:77"}}],
    }
    with pytest.raises(UserError, match="cuda:77"):
        Scorer(manifest=manifest)
