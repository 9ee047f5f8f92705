"""Losses, rewards and evaluations of short training runs: of the tiny model, and of the tests' fake world.

A loss near zero is a difference of much larger numbers, so an absolute tolerance comes beside the relative one.
"""

from __future__ import annotations

import json

from click.testing import CliRunner

from train.sites import COMPONENTS, write_prompts
from unchanged.records import check_record
from worldr1_core.plugins import Installed
from worldr1_train.cli import train

LOGGED = (
    "loss",
    "grad_norm",
    "reward",
    "reward_std",
    "kl",
    "stage",
    "rollout_batch",
    "ratio/max_deviation",
)
"""Keys of `metrics.jsonl` that do not depend on the clock, beside those of rewards and evaluations."""

TINY = """\
version: 1
seed: 3
device: cpu
backbone: {name: tiny-wan, guidance_scale: 1.0}
noise: {name: camera-warp}
sampler: {name: flow-sde, num_inference_steps: 3, window: 1, window_stop: 2}
rewards:
  - {name: mean-gradient}
  - {name: tiny-text-alignment, weight: 0.5}
prompts: {main: train.txt, test: test.txt}
train:
  group_size: 4
  prompts_per_rollout_batch: 1
  micro_batch_size: 2
  updates_per_rollout_batch: 2
  stages:
    - {steps: 2, prompts: main}
    - {steps: 2, prompts: main, rewards: [mean-gradient], noise: {name: camera-warp, injection: stepwise-delta}}
  max_steps: 4
  adapter: {rank: 4, alpha: 4}
  optimiser: {learning_rate: 1.0e-3}
  objective: {kl: 0.01}
  ema: {decay: 0.5, every: 1}
  evaluation: {num_prompts: 2, batch_size: 2, metrics: [mean-gradient, motion], diversity: null}
"""
TINY_TRAIN = (
    "Camera push in. A red box and a blue ball in a green room with checker walls.\n"
    "Camera pan left. A yellow ball in a blue room with striped walls.\n"
)
TINY_TEST = "Camera pull out. A green box in a red room with checker walls.\nA yellow box in a blue room.\n"

FAKE = """\
version: 1
seed: 2
device: cpu
backbone: {name: fake}
noise: {name: fake-noise}
sampler: {name: fake-sde, num_inference_steps: 6, window: 2}
rewards:
  - {name: brightness}
  - {name: gain, weight: 0.5}
prompts: {main: train.txt, dynamic: dynamic.txt, test: test.txt}
train:
  group_size: 4
  prompts_per_rollout_batch: 2
  micro_batch_size: 2
  updates_per_rollout_batch: 2
  stages:
    - {steps: 2, prompts: main}
    - {steps: 2, prompts: dynamic, rewards: [brightness], noise: false}
  max_steps: 4
  optimiser: {learning_rate: 0.01}
  ema: {every: 2}
  evaluation: {metrics: [brightness, redness], num_seeds: 2, every: 2, diversity: null}
"""


def run(folder, manifest: str) -> dict:
    """Train; what the run gave, without what depends on the clock."""
    (folder / "run.yaml").write_text(manifest, encoding="utf-8")
    arguments = [str(folder / "run.yaml"), "--output-dir", str(folder / "out")]
    done = CliRunner().invoke(train, arguments, catch_exceptions=False, standalone_mode=False)
    result = json.loads(done.stdout.splitlines()[-1])
    kept = ("before", "noise_only", "after", "change", "change_by_training", "steps")
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    steps = [
        {key: value for key, value in line.items() if key in LOGGED or key.startswith(("rewards/", "eval/"))}
        for line in lines
        if "train_runtime" not in line
    ]
    return {"result": {key: result[key] for key in kept}, "steps": steps}


def test_four_steps_of_the_tiny_model(tmp_path):
    (tmp_path / "train.txt").write_text(TINY_TRAIN, encoding="utf-8")
    (tmp_path / "test.txt").write_text(TINY_TEST, encoding="utf-8")
    check_record("train-tiny", run(tmp_path, TINY), relative=1e-4, absolute=2e-6)


def test_four_steps_of_the_fake_world(tmp_path, make_registry, monkeypatch):
    """With references, a stage without noise, several updates of a rollout batch and evaluations on the way."""
    registry = make_registry(COMPONENTS)
    monkeypatch.setattr("worldr1_core.plugins.installed", lambda: Installed(registry))
    write_prompts(tmp_path)
    check_record("train-fake", run(tmp_path, FAKE), relative=1e-5, absolute=1e-7)
