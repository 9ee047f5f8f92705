"""The pages about backbones: files are written and run, the manifest validates, and the table is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbones.tiny_checkpoints import make_text_encoder, make_tokenizer, make_wan
from worldr1_backbones.diffusers_backbone import DiffusersBackbone
from worldr1_backbones.plugin import worldr1_register_backbones
from worldr1_backbones.wan import WanBackbone
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "backbones.md").read_text(encoding="utf-8")
HOW_TO = (DOCS / "how-to" / "backbones.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", REFERENCE + HOW_TO, re.DOTALL | re.MULTILINE)
FILES = {m[1]: text for _, text in BLOCKS if (m := re.match(r"# ([\w/.-]+\.\w+)\n", text))}


def test_the_manifest_validates():
    manifest = parse_manifest(FILES["manifest.yaml"], installed().registry, name="docs/reference/backbones.md")
    assert manifest.backbone.name == "wan"


def test_the_block_in_python_runs(tmp_path, monkeypatch):
    make_wan("2.1").save_pretrained(tmp_path / "wan")
    monkeypatch.chdir(tmp_path)
    backbone = WanBackbone(path=str(tmp_path / "wan"), height=32, width=32, num_frames=9, max_sequence_length=16)
    (code,) = [text for language, text in BLOCKS if language == "python" and "rollout_groups" in text]
    names = {"backbone": backbone}
    exec(compile(code, "docs/how-to/backbones.md", "exec"), names)
    assert names["frames"].shape == (3, 9, 3, 32, 32)
    assert (tmp_path / "adapter" / "pytorch_lora_weights.safetensors").is_file()
    assert all(p.grad is not None for _, p in backbone.trainable_parameters())


@pytest.mark.slow
def test_mochi_keeps_every_contract(tmp_path):
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    torch.manual_seed(0)
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        text_embed_dim=16,
        time_embed_dim=4,
        max_sequence_length=16,
    )
    sizes = {"encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32,) * 4}
    vae = AutoencoderKLMochi(**sizes, layers_per_block=(1,) * 5)
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    parts = scheduler, vae, make_text_encoder(), make_tokenizer(), transformer
    MochiPipeline(*parts).save_pretrained(tmp_path / "tiny-mochi")
    for name in ("worldr1_mochi.py", "worldr1_mochi_backbone.py", "test_mochi.py"):
        (tmp_path / name).write_text(FILES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mochi.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_backbone_takes_at_most_twenty_lines():
    files = ("worldr1_mochi.py", "worldr1_mochi_backbone.py")
    assert sum(bool(line.strip()) for name in files for line in FILES[name].splitlines()[1:]) <= 20


@pytest.mark.parametrize("name", worldr1_register_backbones())
def test_every_backbone_is_in_the_table(name):
    assert f"| `{name}` |" in REFERENCE


@pytest.mark.parametrize(
    "name",
    [name for name in vars(DiffusersBackbone)["__annotations__"] if name not in ("Config", "config")]
    + ["layout", "guide", "to_pipeline", "from_pipeline", "call_options", "scheduler_changes"],
)
def test_every_attribute_of_a_subclass_is_listed(name):
    assert f"`{name}`" in HOW_TO or f"`{name}()`" in HOW_TO
