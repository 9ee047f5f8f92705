"""The shipped manifests validate, and hold the constants of the paper (section 3 of the method)."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldr1_core.manifest import load_manifest
from worldr1_core.plugins import installed

EXAMPLES = Path(__file__).parents[2] / "examples"
PRESETS = {name: f"world-r1-{name}.yaml" for name in ("small", "large", "cogvideox")}


def load(name):
    return load_manifest(EXAMPLES / PRESETS[name], installed().registry)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_manifest_validates_and_its_prompts_are_there(path):
    manifest = load_manifest(path, installed().registry)
    assert manifest.prompts
    for place in manifest.prompts.values():
        assert (path.parent / place).exists()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_papers_constants(name):
    manifest = load(name)
    train = manifest.sections["train"]
    backbone = manifest.backbone.options
    assert (backbone["height"], backbone["width"], backbone["num_frames"]) == (480, 832, 81)
    assert backbone["guidance_scale"] == (6.0 if name == "cogvideox" else 5.0)
    assert manifest.sampler.options["num_inference_steps"] == 50
    assert manifest.sampler.options["eta"] == 0.7
    assert (train.group_size, train.prompts_per_rollout_batch) == (8, 48)
    assert [(stage.steps, stage.prompts) for stage in train.stages] == [(100, "main"), (50, "dynamic")]
    assert train.stages[1].rewards == ["preference"]
    assert (train.adapter.rank, train.adapter.alpha) == (32, 64)
    optimiser, objective = train.optimiser, train.objective
    assert (optimiser.learning_rate, optimiser.weight_decay, optimiser.max_grad_norm) == (1e-4, 1e-4, 1.0)
    assert (objective.clip, objective.kl, objective.advantage_clip) == (1e-3, 0.004, 5.0)
    assert (train.ema.decay, train.ema.every) == (0.9, 8)
    assert train.precision == "bfloat16"
    assert train.gradient_checkpointing
    assert [reward.name for reward in manifest.rewards] == ["meta-view", "reconstruction", "trajectory", "preference"]


@pytest.mark.parametrize(("name", "strength"), [("small", 0.35), ("large", 0.40), ("cogvideox", 0.40)])
def test_noise_is_that_of_the_release(name, strength):
    noise = load(name).noise
    assert noise.name == "camera-warp"
    assert noise.options == {"injection": "stepwise-delta", "degradation": 0.35, "strength": strength}
