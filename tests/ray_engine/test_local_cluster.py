"""A local Ray of two workers: scores, evaluations and servers are those of one process, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch

from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.requests import encode_request

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

PLUGIN = """
import os, pathlib, time
from worldr1_core import Reward, hookimpl

class Fatal(Reward):
    \"\"\"Ends its process at clips whose prompt is `fatal`, and takes its time at the others.\"\"\"
    def score(self, clip, inputs):
        if clip.prompt == "fatal":
            os._exit(9)
        time.sleep(0.3)
        return float(clip.video.frames.mean())

@hookimpl
def worldr1_register_rewards():
    return {"acme-fatal": "acme_fatal:Fatal"}
"""
COMMAND = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
SECONDS = 400


def write_videos(folder: Path, count: int) -> Path:
    for index in range(count):
        draws = torch.Generator().manual_seed(index)
        write_video(Video(torch.rand(4, 3, 24, 24, generator=draws)), folder / f"clip {index}-0.safetensors")
    return folder


@pytest.fixture
def videos(tmp_path):
    return write_videos(tmp_path / "videos", 5)


@pytest.fixture
def environment(site) -> dict[str, str]:
    site.add("acme-fatal", PLUGIN)
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**kept, "PYTHONPATH": str(site.path), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


@pytest.fixture
def run(tmp_path, environment):
    def invoke(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, args)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return invoke


def records(text: str) -> dict[str, tuple]:
    """Scores and details by the name of the video's file."""
    lines = [json.loads(line) for line in text.splitlines()]
    return {Path(line["video"]).name: (line["scores"], line["total"], line["details"]) for line in lines}


def test_scores_of_a_bucket_are_those_of_one_process_and_are_kept(run, videos, tmp_path):
    (videos / "broken.mp4").write_bytes(b"no video")
    rewards = ("--rewards", "contrast,motion")
    ray = ("--engine", "ray", "--workers", 2, "--records", tmp_path / "records")
    local, first = run("score", videos, *rewards), run("score", f"file://{videos}", *rewards, *ray)
    assert (local.returncode, first.returncode) == (2, 2), first.stderr
    assert len(records(first.stdout)) == 5
    assert records(first.stdout) == records(local.stdout)
    assert "broken.mp4: cannot be decoded as video" in first.stderr
    (videos / "broken.mp4").unlink()
    start = time.monotonic()
    second = run("score", f"file://{videos}", *rewards, *ray)
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert "connected to Ray" not in second.stderr, f"{time.monotonic() - start:.0f} s"


def test_a_video_that_kills_its_worker_fails_alone(run, videos):
    (videos / "clip 2-0.json").write_text('{"video": "clip 2-0.safetensors", "prompt": "fatal", "seed": 0}')
    done = run("score", videos, "--rewards", "acme-fatal", "--engine", "ray", "--workers", 2)
    assert done.returncode == 2, done.stderr
    assert sorted(records(done.stdout)) == [f"clip {index}-0.safetensors" for index in (0, 1, 3, 4)]
    assert "clip 2-0.safetensors: the process of this video ended unexpectedly" in done.stderr


def test_finished_records_survive_a_killed_driver(environment, tmp_path):
    write_videos(tmp_path / "videos", 24)
    args = ("score", "videos", "--rewards", "acme-fatal", "--engine", "ray", "--workers", "2", "--records", "records")
    process = subprocess.Popen([*COMMAND, *args], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    kept = tmp_path / "records"
    deadline = time.monotonic() + SECONDS
    while len(list(kept.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    times = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert 3 <= len(times) < 24, "the run was not killed while it was under way"
    done = subprocess.run([*COMMAND, *args], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(records(done.stdout)) == 24
    assert {name: (kept / name).stat().st_mtime_ns for name in times} == times


def test_evaluation_of_a_bucket_is_that_of_one_process(run, videos, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"clip {index}" for index in range(5)))
    common = ("--prompts", prompts, "--metrics", "contrast,psnr", "--out")
    local = run("eval", "--videos", f"A={videos}", *common, tmp_path / "a", "--workers", 1)
    ray = run("eval", "--videos", f"A=file://{videos}", *common, tmp_path / "b", "--engine", "ray", "--workers", 2)
    assert (local.returncode, ray.returncode) == (0, 0), ray.stderr
    own, other = ({**json.loads(done.stdout), "out": None} for done in (local, ray))
    assert own == other
    assert (tmp_path / "a" / "table.csv").read_text() == (tmp_path / "b" / "table.csv").read_text()


def test_replicas_speak_the_wire_format_and_drain(environment, tmp_path, make_clip):
    manifest = tmp_path / "served.yaml"
    manifest.write_text("version: 1\ndevice: cpu\nrewards: [{name: acme-fatal}, {name: contrast}]\n")
    options = ("--engine", "ray", "--port", "0", "--min-replicas", "2", "--token-env", "TOKEN")
    process = subprocess.Popen(
        [*COMMAND, "serve", str(manifest), *options],
        env={**environment, "TOKEN": "secret"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        client = ScoringClient(ClientSettings(urls=[url], token="secret", timeout=100))
        clips = [make_clip(seed) for seed in range(8)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda clip: client.score([clip], ["contrast", "acme-fatal"])[0], clips))
        assert [score.scores["acme-fatal"].value for score in found] == [
            float(clip.video.frames.mean()) for clip in clips
        ]
        body = b"".join(encode_request(clips[:1], ["contrast"]))
        refused = httpx.post(f"{url}/v1/score", content=body, headers={"X-Request-ID": "request-1"}, timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorised")
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(client.score, clips[:4], ["acme-fatal"])
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert len(under_way.result(timeout=60)) == 4
        client.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
