"""An adapter that is fused into the weights, and another one that is trained on top of it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones.conftest import SPEC, latents_of, plain_latents, steer_adapter
from worldr1_core.backbone import AdapterSpec
from worldr1_core.errors import UserError, WeightsError


@pytest.fixture(scope="module")
def first(trained):
    """Kind -> latents of a backbone with an adapter, and the adapter's folder."""

    def get(kind):
        backbone, folder = trained(kind)
        return latents_of(backbone), str(folder)

    return get


@pytest.fixture(scope="module")
def second(checkpoints, first, tmp_path_factory):
    """A backbone with one adapter fused and another one on top, and the folder of the latter."""
    backbone = checkpoints.backbone("wan-2.1", fused_adapter=first("wan-2.1")[1])
    backbone.add_adapter(AdapterSpec(rank=2, alpha=4.0, seed=1))
    steer_adapter(backbone)
    folder = tmp_path_factory.mktemp("second") / "adapter"
    backbone.save_adapter(folder)
    return backbone, str(folder)


@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-A14B", "cogvideox-1.5"])
def test_a_fused_adapter_acts_as_one_that_is_put_on(checkpoints, first, kind):
    expected, folder = first(kind)
    fused = checkpoints.backbone(kind, fused_adapter=folder)
    assert not list(fused.trainable_parameters())
    assert not [name for module in fused.denoisers.values() for name, _ in module.named_parameters() if "lora" in name]
    assert torch.allclose(latents_of(fused), expected, atol=1e-4)
    assert not torch.allclose(latents_of(checkpoints.backbone(kind)), expected, atol=1e-2)


def test_a_fresh_adapter_on_top_of_it_has_no_effect_before_training(checkpoints, first):
    fused = checkpoints.backbone("wan-2.1", fused_adapter=first("wan-2.1")[1])
    before = latents_of(fused)
    fused.add_adapter(SPEC)
    assert list(fused.trainable_parameters())
    assert torch.equal(latents_of(fused), before)


def test_the_fused_adapter_stays_when_the_one_on_top_is_disabled(checkpoints, first, second):
    with second[0].adapter_disabled():
        assert torch.allclose(latents_of(second[0]), first("wan-2.1")[0], atol=1e-4)


@pytest.mark.parametrize("how", ["by option", "by call"])
def test_both_together_give_the_trained_model_again(checkpoints, first, second, how):
    backbone, folder = second
    options = {"adapter": folder} if how == "by option" else {}
    again = checkpoints.backbone("wan-2.1", fused_adapter=first("wan-2.1")[1], **options)
    if how == "by call":
        again.load_adapter(folder, trainable=True)
    assert torch.equal(latents_of(again), latents_of(backbone))
    again.save_adapter(folder + "-again")
    with pytest.raises(WeightsError, match="had been fused"):  # what it was trained on is kept
        checkpoints.backbone("wan-2.1").load_adapter(folder + "-again")


def test_an_adapter_is_refused_without_the_one_that_it_was_trained_on(checkpoints, second, tmp_path):
    message = r"trained on a model into which another adapter \(fused:\w{16}\) had been fused, and this model has none"
    with pytest.raises(WeightsError, match=message):
        checkpoints.backbone("wan-2.1").load_adapter(second[1])
    other = checkpoints.backbone("wan-2.1")
    other.add_adapter(SPEC)
    steer_adapter(other, 0.2)
    other.save_adapter(tmp_path / "other")
    with pytest.raises(WeightsError, match=r"this model has fused:\w{16}; take the backbone with which it was trained"):
        checkpoints.backbone("wan-2.1", fused_adapter=str(tmp_path / "other")).load_adapter(second[1])


def test_a_plain_pipeline_stacks_both(checkpoints, first, second):
    backbone, folder = second
    pipeline = checkpoints.pipeline("wan-2.1")
    pipeline.load_lora_weights(first("wan-2.1")[1])
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(folder)
    assert torch.allclose(plain_latents(pipeline, backbone), latents_of(backbone), atol=1e-5)


def test_a_sum_that_is_not_finite_is_refused(checkpoints, first, tmp_path):
    name = "pytorch_lora_weights.safetensors"
    huge = {key: torch.full_like(value, 3e38) for key, value in load_file(f"{first('wan-2.1')[1]}/{name}").items()}
    save_file(huge, tmp_path / name)
    with pytest.raises(WeightsError, match="Cannot load an adapter"):
        _ = checkpoints.backbone("wan-2.1", fused_adapter=str(tmp_path)).pipeline


def test_a_second_adapter_on_one_that_is_not_fused_is_refused_as_before(checkpoints, first):
    backbone = checkpoints.backbone("wan-2.1", adapter=first("wan-2.1")[1])
    with pytest.raises(UserError, match="There is an adapter already"):
        backbone.add_adapter(SPEC)
