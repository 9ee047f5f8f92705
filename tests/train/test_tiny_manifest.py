"""The main job and the paper's objective on the tiny world, from the command line to a plain diffusers pipeline."""

from __future__ import annotations

import json
import math

import pytest
import torch
from ablations import QUICK, RECIPES
from click.testing import CliRunner
from tiny_runs import manifest_of

from train.tiny_settings import TWO_STEPS
from worldr1_backbones.wan import FlawedTinyWanBackbone
from worldr1_core.plugins import installed
from worldr1_train.cli import train
from worldr1_train.plan import read_manifest

SMALL = (
    *TWO_STEPS,
    "train.evaluation.batch_size=2",
    "train.evaluation.diversity={num_prompts: 1, num_seeds: 2}",
    "train.evaluation.reference_clips={source: backbone, num_clips: 2}",
    "sampler.num_inference_steps=4",
)


def frames_of(pipeline):
    prompt = "Camera push in. A red box and a blue ball in a green room with checker walls."
    generator = torch.Generator().manual_seed(0)
    pipeline.set_progress_bar_config(disable=True)
    return torch.from_numpy(
        pipeline(prompt, height=64, width=64, num_frames=9, num_inference_steps=2, generator=generator).frames
    )


@pytest.mark.parametrize("recipe", ["tiny", pytest.param("tiny-flow-grpo", marks=pytest.mark.slow)])
def test_a_recipe_trains_and_its_adapter_loads_without_us(tmp_path, recipe):
    arguments = [
        str(manifest_of(recipe)),
        "--output-dir",
        str(tmp_path / "run"),
        *(f"--set={value}" for value in SMALL),
    ]
    done = CliRunner().invoke(train, arguments, catch_exceptions=False, standalone_mode=False)
    result = json.loads(done.stdout.splitlines()[-1])
    names = ("psnr", "psnr_normalised", "camera_accuracy", "gradient_x", "contrast", "motion", "flow_matching_loss")
    for name in names:
        assert math.isfinite(result["before"][name])
        assert math.isfinite(result["noise_only"][name])
        assert math.isfinite(result["after"][name])
    assert result["before"]["psnr"] != result["noise_only"]["psnr"], "before is the model from plain noise"
    assert result["change"]["psnr"] != result["change_by_training"]["psnr"]
    assert result["steps"] == 2
    adapted = frames_of(pipeline_of_the_card(tmp_path / "run"))
    assert torch.isfinite(adapted).all()
    untrained = FlawedTinyWanBackbone()
    assert not torch.equal(adapted, frames_of(untrained.pipeline))
    untrained.load_adapter(tmp_path / "run" / "adapter")
    torch.testing.assert_close(adapted, frames_of(untrained.pipeline), atol=1e-3, rtol=0)


def pipeline_of_the_card(folder):
    """What the code in a run's model card makes."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace(f'"{folder.name}", subfolder="adapter"', f'"{folder / "adapter"}"')  # a folder, not the hub
    names = {}
    exec(code, names)
    return names["pipeline"]


@pytest.mark.parametrize(
    ("recipe", "variant"), [(recipe, variant) for recipe in RECIPES for variant in (*RECIPES[recipe], "quick")]
)
def test_what_the_ablations_change_gives_a_manifest(recipe, variant):
    registry = installed().registry
    overrides = QUICK if variant == "quick" else RECIPES[recipe][variant]
    changed = read_manifest(manifest_of(recipe), registry, overrides)
    assert (changed != read_manifest(manifest_of(recipe), registry)) == bool(overrides)
