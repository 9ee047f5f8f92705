"""Evaluations that are killed, and memory over many videos."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from evaluation.sites import write_set
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.evaluation.records import RECORDS, read_records
from worldr1_rewards.probes.world import render_world

pytestmark = pytest.mark.slow

PEAKS = """
import resource, sys
from worldr1_rewards import evaluate
from worldr1_rewards.evaluation.measure import VideoMeasurer

original, peaks = VideoMeasurer.measure, []

def measure(self, job, fingerprint):
    record = original(self, job, fingerprint)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return record

VideoMeasurer.measure = measure
result = evaluate(sys.argv[1], sys.argv[2])
cells = result.summary.cells["all", "all"]["videos"]
print(peaks[9], peaks[-1], len(peaks), cells["psnr"].estimate.num_videos, cells["ate"].estimate.num_videos)
"""


def test_a_killed_run_continues_without_measuring_a_finished_video_again(tmp_path):
    names = [f"Camera push in. Room {index}" for index in range(12)]
    write_set(tmp_path / "videos", names, contrast=0.5)
    (tmp_path / "prompts.txt").write_text("\n".join(names), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from worldr1_core.cli import main; main()",
        "eval",
        "--videos",
        "A=videos",
        "--prompts",
        "prompts.txt",
    ]
    command += ["--metrics", "psnr,contrast", "--out", "out", "--workers", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "out" / RECORDS
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and len(read_records(records)) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {record.video: record.seconds for record in read_records(records)}
    assert 3 <= len(kept) < 12, "the run was not killed while it was under way"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = {record.video: record.seconds for record in read_records(records)}
    assert len(after) == 12
    assert {video: after[video] for video in kept} == kept
    assert json.loads(done.stdout)["num_videos"] == {"A": 12}


def test_memory_does_not_grow_with_the_number_of_videos(tmp_path):
    """The default columns, each video with a reconstruction of its own."""
    moves = ("push in", "pull out", "move left", "move right", "orbit left")
    worlds = [render_world("rich", move, seed=seed, size=(128, 128), num_frames=17) for seed, move in enumerate(moves)]
    prompts = []
    for index in range(100):
        world = worlds[index % len(worlds)]
        prompts.append(f"Camera {world.moves[0]}. Room {index}")
        write_video(Video(world.frames * (1 - 0.005 * index)), tmp_path / "videos" / f"{prompts[-1]}-0.safetensors")
    (tmp_path / "prompts.txt").write_text("\n".join(prompts), encoding="utf-8")
    command = [sys.executable, "-c", PEAKS, str(tmp_path / "videos"), str(tmp_path / "prompts.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after_ten, after_all, *counts = map(int, done.stdout.split())
    assert counts == [100, 100, 100], "every video is reconstructed"
    assert after_all <= 1.2 * after_ten
