"""The shipped checkpoint is a Wan checkpoint, small, and does what its card says."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5EncoderModel

from tools.tiny_world.evaluate import evaluate_checkpoint, generate
from tools.tiny_world.model import load_pipeline
from worldr1_backbones.backbone_choice import backbone_spec
from worldr1_backbones.tiny import CHECKPOINT, FLAWED_ADAPTER, TinyWanVAE
from worldr1_backbones.wan import FlawedTinyWanBackbone, TinyWanBackbone
from worldr1_core.plugins import installed

PROMPT = "Camera pan left. A red box and a blue ball in a green room with checker walls."


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(CHECKPOINT)


def test_the_checkpoint_is_small_and_inside_the_package():
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    assert resources.files("worldr1_backbones.tiny").joinpath("checkpoint", "model_index.json").is_file()


def test_its_folder_has_the_released_layout():
    index = json.loads((CHECKPOINT / "model_index.json").read_text())
    assert index["_class_name"] == "WanPipeline"
    assert index["vae"] == ["worldr1_backbones.tiny", "TinyWanVAE"]
    for name in ("scheduler", "text_encoder", "tokenizer", "transformer", "vae"):
        assert (CHECKPOINT / name).is_dir()


def test_importing_the_tiny_world_is_light():
    code = "import sys, worldr1_backbones.tiny as t; print(t.CHECKPOINT.name, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["checkpoint", "False"]


def test_an_unknown_name_is_an_attribute_error():
    import worldr1_backbones.tiny as tiny

    with pytest.raises(AttributeError, match="no attribute 'TinyVAE'"):
        _ = tiny.TinyVAE


def test_the_unmodified_pipeline_loads_it(pipeline):
    assert type(pipeline) is WanPipeline
    assert type(pipeline.transformer) is WanTransformer3DModel
    assert type(pipeline.text_encoder) is UMT5EncoderModel
    assert type(pipeline.scheduler) is FlowMatchEulerDiscreteScheduler
    assert type(pipeline.vae) is TinyWanVAE
    assert pipeline.scheduler.config.shift == 3.0


def test_a_saved_copy_loads_again(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    again = load_pipeline(tmp_path)
    first, second = (generate(p, [PROMPT], num_inference_steps=2) for p in (pipeline, again))
    assert torch.equal(first, second)


def test_it_generates_the_shape_and_the_same_clip_for_a_seed(pipeline):
    first = generate(pipeline, [PROMPT], num_inference_steps=3, seed=4)
    assert first.shape == (1, 9, 3, 64, 64)
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, generate(pipeline, [PROMPT], num_inference_steps=3, seed=4))
    assert not torch.equal(first, generate(pipeline, [PROMPT], num_inference_steps=3, seed=5))


def test_the_prompt_decides_the_colours(pipeline):
    rooms = [
        f"Camera fixed. A white ball in a {colour} room with checker walls." for colour in ("red", "green", "blue")
    ]
    clips = generate(pipeline, rooms, num_inference_steps=10, seed=1)
    walls = clips[:, :, :, 12:32].mean((1, 3, 4))
    assert walls.argmax(1).tolist() == [0, 1, 2]


def test_the_pipelines_own_text_length_is_borne(pipeline):
    """`WanPipeline` pads to 512 by default, and Wan attends to padding."""
    rooms = [
        f"Camera fixed. A white ball in a {colour} room with checker walls." for colour in ("red", "green", "blue")
    ]
    clips = generate(pipeline, rooms, num_inference_steps=10, seed=1, max_sequence_length=512)
    walls = clips[:, :, :, 12:32].mean((1, 3, 4))
    assert walls.argmax(1).tolist() == [0, 1, 2]


def test_the_card_states_the_figures_that_were_measured():
    card = (CHECKPOINT / "README.md").read_text()
    measured = json.loads((CHECKPOINT / "evaluation.json").read_text())
    assert f"{100 * measured['camera_accuracy']:.1f} %" in card
    assert f"{measured['vae_psnr']:.1f} dB" in card


def test_the_card_of_the_flawed_model_states_what_was_measured():
    card = (FLAWED_ADAPTER / "README.md").read_text()
    flawed, sound = (json.loads((folder / "evaluation.json").read_text()) for folder in (FLAWED_ADAPTER, CHECKPOINT))
    for name, form in (("camera_accuracy", "{:.1%}"), ("sharpness", "{:.4f}"), ("contrast", "{:.4f}")):
        row = [form.format(figures[name]).replace("%", " %") for figures in (flawed, sound)]
        assert f"| {row[0]} | {row[1]} |" in card, name


def test_the_flawed_model_is_small_and_another_one():
    (weights,) = FLAWED_ADAPTER.glob("*.safetensors")
    assert weights.stat().st_size <= 1_000_000
    flawed, sound = FlawedTinyWanBackbone(), TinyWanBackbone()
    videos = [
        backbone.decode(backbone.sample(backbone.encode([PROMPT]), _noise(backbone), num_inference_steps=4).latents)
        for backbone in (flawed, sound)
    ]
    assert flawed.geometry == sound.geometry
    assert (videos[0] - videos[1]).abs().mean() > 0.01


def _noise(backbone):
    return torch.randn(1, *backbone.geometry.shape, generator=torch.Generator().manual_seed(0))


def test_the_folder_of_the_checkpoint_names_the_sound_model():
    assert backbone_spec(str(CHECKPOINT), installed().registry).name == "tiny-wan"


@pytest.fixture(scope="module")
def figures():
    return evaluate_checkpoint()


@pytest.mark.slow
def test_the_stated_figures_are_measured_again(figures):
    stated = json.loads((CHECKPOINT / "evaluation.json").read_text())
    assert figures["captions"] == stated["captions"] == 200
    assert figures["camera_accuracy_of_renders"] >= 0.97
    assert figures["vae_psnr"] >= 28
    for name in ("camera_accuracy", "sharpness", "contrast"):
        assert figures[name] == pytest.approx(stated[name], rel=0.05), name
    assert 0.85 < figures["contrast"] / figures["contrast_of_renders"] < 1.15


@pytest.mark.slow
def test_the_stated_figures_of_the_flawed_model_are_measured_again():
    stated = json.loads((FLAWED_ADAPTER / "evaluation.json").read_text())
    figures = evaluate_checkpoint(adapter=FLAWED_ADAPTER)
    for name in ("camera_accuracy", "sharpness", "contrast"):
        assert figures[name] == pytest.approx(stated[name], rel=0.05), name


@pytest.mark.slow
def test_captions_are_followed(figures):
    assert figures["camera_accuracy"] >= 0.8


@pytest.mark.slow
@pytest.mark.xfail(reason="the shipped checkpoint is 27 % sharper than renders: its textures are grainy", strict=True)
def test_clips_are_as_sharp_as_renders(figures):
    assert 0.8 < figures["sharpness"] / figures["sharpness_of_renders"] < 1.25
