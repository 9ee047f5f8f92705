"""Every preset from end to end on the CPU: tiny random checkpoints in the released layouts, workers in environments.

The environments are real: uv makes them on the first run, which downloads what its cache lacks.
"""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from backbones.tiny_checkpoints import make_cogvideox, make_wan
from judges.tiny_vlm import build_vlm
from rewards.test_lpips import FILE, fake_weights
from rewards.tiny_preference import INSTRUCTION, build_base, hpsv3_reference, hpsv3_state, save_hpsv3
from worldr1_core.cli import cli
from worldr1_core.testing import make_clip
from worldr1_rewards import Scorer
from worldr1_rewards.serving.environments import EnvironmentOptions, make_environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WRITE_DA3 = """\
import pathlib, sys
from reconstruction import write_random_da3
write_random_da3("da3-small", pathlib.Path(sys.argv[1]), 0.8)
"""
PROMPT = "Camera push in. A red ball on the floor."
SIDE = 64
SMALL = {
    "group_size": 2,
    "prompts_per_rollout_batch": 1,
    "stages": [{"steps": 1, "prompts": "main"}, {"steps": 1, "prompts": "dynamic", "rewards": ["preference"]}],
    "max_steps": 2,
    "failures": {"max_share": 1.0},
    "ema": {"decay": 0.9, "every": 1},
    "precision": "float32",
    "report_to": [],
    "evaluation": {
        "prompts": "test",
        "num_prompts": 1,
        "batch_size": 1,
        "metrics": ["reconstruction", "preference", "contrast"],
        "diversity": None,
    },
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with one checkpoint per model."""
    folder = tmp_path_factory.mktemp("weights")
    make_wan("2.1").save_pretrained(folder / "wan")
    make_cogvideox("1.5").save_pretrained(folder / "cogvideox")
    build_vlm("qwen3-vl", folder / "judge")
    config, processor = build_base(folder / "base")
    model, head = hpsv3_reference(config, len(processor.tokenizer) + 1)
    save_hpsv3(folder, hpsv3_state(model, head, "new"))
    (folder / "instruction.txt").write_text(INSTRUCTION)
    cache = folder / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(fake_weights(), cache / FILE)
    python = make_environment(EnvironmentOptions(python="3.11", extras=["da3"]))
    environment = {"PYTHONPATH": str(ROOT / "benchmarks"), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    subprocess.run([str(python), "-c", WRITE_DA3, str(folder / "da3")], env=environment, check=True)
    return folder


@pytest.fixture
def preset(weights, tmp_path, monkeypatch):
    """Write a preset with tiny checkpoints: `preset(name)`."""
    monkeypatch.setenv("TORCH_HOME", str(weights / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def write(name: str) -> Path:
        document = yaml.safe_load((ROOT / "examples" / f"world-r1-{name}.yaml").read_text())
        document["device"] = "cpu"
        document["backbone"] |= {"path": str(weights / document["backbone"]["name"]), "max_sequence_length": 16}
        document["backbone"] |= {"height": SIDE, "width": SIDE, "num_frames": 9, "offload": "none"}
        document["sampler"] |= {"num_inference_steps": 3, "window": 1}
        if document["reconstructor"]["name"] == "da3":
            document["reconstructor"] |= {"model": str(weights / "da3"), "process_res": 56}
        document["judge"] |= {"model": str(weights / "judge"), "min_mass": 0.0}
        preference = document["rewards"][3]
        if preference["model"] == "hpsv3":
            preference |= {"checkpoint": str(weights / "HPSv3.safetensors"), "base": str(weights / "base")}
            preference |= {"instruction": str(weights / "instruction.txt"), "dtype": "float32"}
        else:
            preference |= {"checkpoint": str(weights / "absent.pt")}
        document["train"] |= SMALL
        document["prompts"] = dict.fromkeys(document["prompts"], "prompts.txt")
        (tmp_path / "prompts.txt").write_text(f"{PROMPT}\n")
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


@pytest.mark.parametrize("name", ["small", "large", "cogvideox"])
def test_a_preset_trains_with_its_rewards_in_environments(preset, tmp_path, name):
    arguments = ["train", str(preset(name)), "--output-dir", str(tmp_path / "run")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] == 2
    for figures in (result["before"], result["after"]):
        assert all(math.isfinite(figures[name]) for name in ("reconstruction", "preference", "contrast"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {key for line in lines for key in line if key.startswith("rewards/")}
    assert {
        f"rewards/{reward}/mean" for reward in ("meta-view", "reconstruction", "trajectory", "preference")
    } <= logged
    (adapter,) = (tmp_path / "run" / "adapter").glob("*.safetensors")
    assert any(bool(value.any()) for key, value in load_file(adapter).items() if "lora_B" in key)


def test_scores_of_a_preset(preset):
    scorer = Scorer(manifest=preset("small"))
    record = scorer(make_clip("push in", size=(48, 64), num_frames=4))
    assert all(0 <= record["scores"][name] <= 1 for name in ("reconstruction", "trajectory", "preference"))
    assert record["details"]["preference"]["model"] == "hpsv3"
    assert record["details"]["reconstruction"]["lpips"] > 0
    assert record["scores"]["meta-view"] is not None or "meta-view" in record["reasons"]


def test_the_release_variant_asks_its_environment_for_its_weights(preset):
    """HPSv2.1 is a fixed architecture of a billion weights, so its environment is asked, and says what is missing."""
    from worldr1_core.errors import UserError

    scorer = Scorer(["preference"], manifest=preset("small-release"))
    with pytest.raises(UserError, match=r"absent\.pt"):
        scorer(make_clip("push in", size=(48, 64), num_frames=4))
