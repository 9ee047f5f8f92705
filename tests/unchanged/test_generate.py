"""The videos that `worldr1 generate` makes of a prompt and a seed.

Hashes of the bytes would differ between processors: a pixel that lies between two 8-bit values is rounded either way.
The mean of every 16 x 16 block of every frame, and the spread of every frame, stand for the pixels instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch.nn.functional import avg_pool2d

from unchanged.records import check_record
from worldr1_core.cli import cli
from worldr1_core.video_io import read_video

README_PROMPT = "Camera push in. A red box and a blue ball in a green room with checker walls."
STEPWISE = """\
version: 1
seed: 11
device: cpu
backbone: {name: tiny-wan, guidance_scale: 1.0}
noise: {name: camera-warp, injection: stepwise-delta}
sampler: {name: flow-sde, num_inference_steps: 3}
"""
NO_SAMPLER = """\
version: 1
seed: 4
device: cpu
backbone: {name: tiny-wan}
"""
CASES = {
    "readme": (None, ["--prompt", README_PROMPT, "--seed", "7", "--num-inference-steps", "3"]),
    "gaussian": (None, ["--prompt", README_PROMPT, "--noise", "gaussian", "--num-inference-steps", "3"]),
    "stepwise-batch": (
        STEPWISE,
        ["--prompt", README_PROMPT, "--prompt", "A yellow ball.", "--num-videos", "2", "--batch-size", "3"],
    ),
    "no-sampler": (NO_SAMPLER, ["--prompt", README_PROMPT, "--num-inference-steps", "2", "--fps", "5"]),
}


@pytest.mark.parametrize("case", CASES)
def test_videos_of_a_prompt_and_seed(case, tmp_path):
    manifest, arguments = CASES[case]
    if manifest is not None:
        (tmp_path / "manifest.yaml").write_text(manifest, encoding="utf-8")
        arguments = [str(tmp_path / "manifest.yaml"), *arguments]
    arguments = ["generate", *arguments, "--format", "safetensors", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    videos = [describe(json.loads(line)) for line in done.stdout.splitlines()]
    check_record(f"generate-{case}", {"videos": videos}, relative=0, absolute=2e-4)


def describe(line: dict) -> dict:
    """What the command says about a video, and the video in numbers."""
    path = Path(line["video"])
    video, record = read_video(path), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    trajectory = record["trajectory"]
    blocks = avg_pool2d(video.frames, 16).mean(1)
    return {
        "name": path.name,
        "prompt": line["prompt"],
        "seed": line["seed"],
        "fps": video.fps,
        "num_inference_steps": record["num_inference_steps"],
        "last_pose": None if trajectory is None else trajectory["c2w"][-1],
        "spread": [round(value, 6) for value in video.frames.std((1, 2, 3)).tolist()],
        "channels": [[round(value, 6) for value in row] for row in video.frames.mean((2, 3)).tolist()],
        "blocks": [[round(value, 5) for value in row] for row in blocks.flatten(1).tolist()],
    }
