"""Checkpoints that are absent, damaged, of another architecture or cut short; sizes that a model cannot make."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldr1_backbones.cogvideox import CogVideoXBackbone
from worldr1_backbones.wan import WanBackbone
from worldr1_core.errors import UserError, WeightsError


@pytest.fixture
def broken(checkpoints, tmp_path):
    """A copy of a checkpoint, to be damaged."""

    def copy(kind="wan-2.1"):
        return shutil.copytree(checkpoints.folder(kind), tmp_path / kind)

    return copy


def _load(folder, checkpoints, kind="wan-2.1"):
    backbone = checkpoints.backbone(kind, path=str(folder))
    with pytest.raises(WeightsError) as caught:
        backbone.pipeline  # noqa: B018
    return str(caught.value)


def test_a_folder_that_is_not_there(checkpoints, tmp_path):
    message = _load(tmp_path / "nowhere", checkpoints)
    assert "there is no such folder" in message
    assert str(tmp_path / "nowhere") in message


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("model_index.json", "there is no file 'model_index.json'"),
        ("transformer/config.json", "there is no file 'transformer/config.json'"),
        ("vae/config.json", "there is no file 'vae/config.json'"),
        ("transformer/diffusion_pytorch_model.safetensors", "Cannot load transformer"),
        ("vae/diffusion_pytorch_model.safetensors", "Cannot load vae"),
        ("text_encoder/model.safetensors", "Cannot load text_encoder"),
    ],
)
def test_a_missing_file_is_named(checkpoints, broken, file, named):
    folder = broken()
    (folder / file).unlink()
    message = _load(folder, checkpoints)
    assert named in message
    assert "Check the path and that the files are complete" in message


@pytest.mark.parametrize("what", ["tokenizer", "tokenizer/tokenizer.json"])
def test_a_missing_tokenizer(checkpoints, broken, what):
    """Transformers makes one with an empty vocabulary."""
    folder = broken()
    (shutil.rmtree if (folder / what).is_dir() else os.unlink)(folder / what)
    assert "tokenizer" in _load(folder, checkpoints)


@pytest.mark.parametrize(
    "file", ["transformer/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "model_index.json"]
)
def test_a_file_that_was_cut_short(checkpoints, broken, file):
    path = broken() / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "Cannot load" in _load(path.parents[1] if "/" in file else path.parent, checkpoints)


@pytest.mark.parametrize(
    "file",
    [
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_a_weight_that_the_checkpoint_lacks_is_not_drawn_at_random(checkpoints, broken, file):
    folder = broken()
    state = load_file(folder / file)
    dropped = sorted(name for name in state if "weight" in name and "shared" not in name)[0]
    del state[dropped]
    save_file(state, folder / file, metadata={"format": "pt"})
    message = _load(folder, checkpoints)
    assert "does not fill the" in message
    assert dropped.split(".")[-2] in message


def test_a_weight_of_another_shape(checkpoints, broken):
    folder = broken()
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["proj_out.bias"] = torch.zeros(7)
    save_file(state, path, metadata={"format": "pt"})
    assert "proj_out.bias" in _load(folder, checkpoints)


def test_a_checkpoint_of_another_architecture(checkpoints):
    with pytest.raises(WeightsError, match=r"holds a 'CogVideoXPipeline'.*needs a 'WanPipeline'"):
        WanBackbone(path=str(checkpoints.folder("cogvideox-1.5"))).geometry  # noqa: B018
    backbone = CogVideoXBackbone(path=str(checkpoints.folder("wan-2.1")))
    for read in ("geometry", "base_scheduler", "pipeline"):
        with pytest.raises(WeightsError, match=r"holds a 'WanPipeline'.*needs a 'CogVideoXPipeline'"):
            getattr(backbone, read)


def test_a_component_of_an_unknown_class(checkpoints, broken):
    folder = broken()
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "NoSuchVAE"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "'NoSuchVAE' of 'diffusers' cannot be imported" in _load(folder, checkpoints)


def test_a_hub_id_that_is_not_in_the_cache(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = WanBackbone(path="nobody/no-such-model", local_files_only=True)
    with pytest.raises(WeightsError, match=r"hf download nobody/no-such-model"):
        backbone.encode(["a"])


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no connection")

    monkeypatch.setattr("transformers.utils.cached_file", unreachable)
    backbone = WanBackbone(path="nobody/no-such-model", revision="v1")
    with pytest.raises(WeightsError, match=r"'nobody/no-such-model': no connection\. Check the name and the network"):
        backbone.encode(["a"])


def test_nothing_is_loaded_before_it_is_needed():
    assert WanBackbone(path="nobody/no-such-model").config.path == "nobody/no-such-model"


def test_loaded_weights_are_those_of_the_files(checkpoints, wan):
    """Every one of them, the text encoder's embedding included."""
    folder, pipeline = checkpoints.folder("wan-2.1"), wan.pipeline
    for name in ("transformer", "vae", "text_encoder"):
        loaded = getattr(pipeline, name).state_dict()
        (file,) = (folder / name).glob("*.safetensors")
        stored = load_file(file)
        assert stored
        for key, value in stored.items():
            assert torch.equal(loaded[key], value), key


@pytest.mark.parametrize(("frames", "nearest"), [(8, "5 or 9"), (10, "9 or 13"), (2, "1 or 5")])
def test_frames_must_be_a_multiple_of_the_stride_plus_one(checkpoints, broken, frames, nearest):
    """The configuration tells; the weights are not even there."""
    folder = broken()
    (folder / "transformer/diffusion_pytorch_model.safetensors").unlink()
    backbone = checkpoints.backbone("wan-2.1", path=str(folder), num_frames=frames)
    with pytest.raises(UserError, match=rf"multiple of 4 plus 1.*received {frames}\. Nearest: {nearest}"):
        backbone.encode(["a"])


@pytest.mark.parametrize("side", ["height", "width"])
def test_sides_must_fill_whole_patches(checkpoints, side):
    backbone = checkpoints.backbone("wan-2.1", **{side: 40})
    with pytest.raises(UserError, match=rf"{side} must be a multiple of 16.*received 40\. Nearest: 32 or 48"):
        backbone.geometry  # noqa: B018


def test_offload_needs_a_gpu(checkpoints):
    for offload in ("text-encoder", "model", "sequential"):
        with pytest.raises(UserError, match="Set offload to none, or choose a GPU"):
            checkpoints.backbone("wan-2.1", offload=offload)
