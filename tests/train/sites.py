"""The fake world as an installed distribution, and a manifest for it."""

from __future__ import annotations

from pathlib import Path

from train.fake_world import __name__ as fake_world

COMPONENTS = {
    "backbone": {"fake": f"{fake_world}:FakeBackbone"},
    "sampler": {"fake-sde": f"{fake_world}:FakeSampler"},
    "reward": {
        "brightness": f"{fake_world}:Brightness",
        "redness": f"{fake_world}:Redness",
        "shine-accuracy": f"{fake_world}:CameraAccuracy",
        "gain": f"{fake_world}:Gain",
    },
    "noise conditioner": {"fake-noise": f"{fake_world}:NegatedNoise"},
    "manifest section": {"train": "worldr1_train.section:TrainSection"},
}
"""Components of the manifest, for a registry of their own: kind -> name -> target."""

MANIFEST = """\
version: 1
device: cpu
backbone: {name: fake}
sampler: {name: fake-sde, num_inference_steps: 6, window: 2}
rewards:
  - {name: brightness}
  - {name: redness, weight: 0.5}
prompts: {main: train.txt, dynamic: dynamic.txt, test: test.txt}
train:
  group_size: 4
  prompts_per_rollout_batch: 2
  micro_batch_size: 2
  updates_per_rollout_batch: 2
  stages:
    - {steps: 6, prompts: main}
    - {steps: 2, prompts: dynamic, rewards: [brightness], noise: false}
  max_steps: 16
  optimiser: {learning_rate: 0.01}
  ema: {every: 2}
  evaluation: {metrics: [brightness, redness, shine-accuracy]}
  checkpoints: {every: 5, keep: 2}
"""


def add_fake_world(folder: Path) -> None:
    """Install the fake world into a site folder."""
    folder.mkdir(parents=True, exist_ok=True)
    source = (Path(__file__).parent / "fake_world.py").read_text(encoding="utf-8")
    (folder / "fake_world.py").write_text(source, encoding="utf-8")
    metadata = folder / "fake_world-1.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-world\nVersion: 1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[worldr1]\nplugin = fake_world\n", encoding="utf-8")


def write_prompts(folder: Path) -> None:
    """The three splits of the manifest."""
    (folder / "train.txt").write_text(
        "a red ball\nCamera push in. A blue box.\na room\na lamp\na cup\n", encoding="utf-8"
    )
    (folder / "dynamic.txt").write_text("a fast dog\na kite\n", encoding="utf-8")
    (folder / "test.txt").write_text("a cat\nCamera pan left. A tree.\na house\na boat\n", encoding="utf-8")
