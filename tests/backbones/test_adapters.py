"""Adapters: what is trained, what is written, and that plain diffusers reads it."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backbones.conftest import PROMPTS, noise, steer_adapter
from worldr1_core.backbone import AdapterSpec
from worldr1_core.errors import OutputError, UserError, WeightsError
from worldr1_core.policy import PolicyRun
from worldr1_core.seeding import generator

SPEC = AdapterSpec(rank=4, alpha=16.0)


def _latents(backbone):
    return backbone.sample(backbone.encode(PROMPTS), noise(backbone), num_inference_steps=3).latents


@pytest.fixture(scope="module")
def trained(checkpoints, tmp_path_factory):
    """Kind -> a backbone whose adapter has an effect, and the folder in which it was saved."""
    made = {}

    def get(kind):
        if kind not in made:
            backbone = checkpoints.backbone(kind)
            backbone.add_adapter(SPEC)
            steer_adapter(backbone)
            folder = tmp_path_factory.mktemp("adapters") / kind
            backbone.save_adapter(folder)
            made[kind] = backbone, folder
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-5B", "cogvideox-1.5"])
def test_a_plain_pipeline_reads_the_adapter_and_gives_the_same(checkpoints, trained, kind):
    backbone, folder = trained(kind)
    pipeline = checkpoints.pipeline(kind)
    pipeline.load_lora_weights(str(folder))
    pipeline.scheduler = backbone.base_scheduler
    plain = pipeline(
        **backbone.encode(PROMPTS).tensors,
        **backbone.call_options(),
        latents=backbone.to_pipeline(noise(backbone)),
        num_inference_steps=3,
        output_type="latent",
        return_dict=False,
    )[0]
    assert torch.equal(backbone.from_pipeline(plain), _latents(backbone))


def test_a_plain_pipeline_reads_both_adapters_of_two_transformers(checkpoints, trained):
    backbone, folder = trained("wan-2.2-A14B")
    pipeline = checkpoints.pipeline("wan-2.2-A14B")
    pipeline.load_lora_weights(str(folder))
    second = "pytorch_lora_weights_transformer_2.safetensors"
    pipeline.load_lora_weights(str(folder), weight_name=second, load_into_transformer_2=True)
    pipeline.scheduler = backbone.base_scheduler
    plain = pipeline(
        **backbone.encode(PROMPTS).tensors,
        **backbone.call_options(),
        latents=noise(backbone),
        num_inference_steps=3,
        output_type="latent",
        return_dict=False,
    )[0]
    assert torch.equal(plain, _latents(backbone))


@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-A14B", "cogvideox-1.5"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_configured_adapter_is_put_on_at_loading_bit_by_bit(checkpoints, trained, kind, dtype):
    backbone, folder = trained(kind)
    again = checkpoints.backbone(kind, adapter=str(folder), dtype=dtype)
    for name, module in again.denoisers.items():
        loaded = {n: p for n, p in module.named_parameters() if "lora" in n}
        stored = {n: p for n, p in backbone.denoisers[name].named_parameters() if "lora" in n}
        assert loaded.keys() == stored.keys()
        assert all(torch.equal(loaded[n], stored[n]) and loaded[n].dtype == torch.float32 for n in stored)
        assert not any(p.requires_grad for p in loaded.values())


def test_an_adapter_that_was_read_may_be_trained_on(checkpoints, trained):
    backbone, folder = trained("wan-2.1")
    again = checkpoints.backbone("wan-2.1")
    again.load_adapter(folder, trainable=True)
    assert [n for n, _ in again.trainable_parameters()] == [n for n, _ in backbone.trainable_parameters()]


def test_the_adapter_is_float32_on_the_backbones_own_layers_of_a_frozen_model(checkpoints):
    backbone = checkpoints.backbone("wan-2.1", dtype="bfloat16")
    backbone.add_adapter(SPEC)
    trainable = dict(backbone.trainable_parameters())
    layers = {name.split(".lora_")[0].rsplit("attn", 1)[1] for name in trainable}
    assert layers == {f"{i}.{layer}" for i in (1, 2) for layer in ("to_q", "to_k", "to_v", "to_out.0")}
    assert all(p.dtype == torch.float32 for p in trainable.values())
    assert all("lora_" in name for name in trainable)
    for component in (backbone.pipeline.vae, backbone.pipeline.text_encoder):
        assert not any(p.requires_grad for p in component.parameters())


def test_both_transformers_get_an_adapter(checkpoints):
    backbone = checkpoints.backbone("wan-2.2-A14B")
    backbone.add_adapter(SPEC)
    counts = {
        name: sum(n.startswith(name + ".") for n, _ in backbone.trainable_parameters()) for name in backbone.denoisers
    }
    assert counts == {"transformer": 32, "transformer_2": 32}


def test_the_seed_decides_the_initial_weights(checkpoints):
    drawn = []
    for seed, outside in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(outside)
        backbone = checkpoints.backbone("wan-2.1")
        backbone.add_adapter(AdapterSpec(rank=4, seed=seed))
        drawn.append(torch.cat([p.flatten() for _, p in backbone.trainable_parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("targets", [("to_q", "to_qq"), ("no_such",), ("q",)])
def test_targets_that_match_no_layer_are_refused(checkpoints, targets):
    backbone = checkpoints.backbone("wan-2.1")
    with pytest.raises(UserError, match=rf"target_modules .*'{targets[-1]}'.* match no linear layer.*'attn1.to_q'"):
        backbone.add_adapter(AdapterSpec(target_modules=targets))
    assert not list(backbone.trainable_parameters())


def test_gradient_checkpointing_gives_the_same_gradients(checkpoints):
    from worldr1_backbones.samplers.flow_sde import FlowSDESampler

    backbone = checkpoints.backbone("wan-2.1")
    backbone.add_adapter(SPEC)
    steer_adapter(backbone)
    scheduler = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    run = PolicyRun(window=(1, 2), generators=[generator(0, i) for i in range(2)], record=True)
    (step,) = backbone.sample(
        backbone.encode(PROMPTS), noise(backbone), num_inference_steps=3, scheduler=scheduler, run=run
    ).steps
    gradients = []
    for enabled in (False, True):
        backbone.set_gradient_checkpointing(enabled)
        assert backbone.pipeline.transformer.is_gradient_checkpointing is enabled
        loss = scheduler.transition(step.point, step.sample, backbone.predict(step)).log_prob(step.next_sample).sum()
        parameters = [p for _, p in backbone.trainable_parameters()]
        gradients.append(torch.autograd.grad(loss, parameters))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_denoiser_without_gradient_checkpointing_says_so(checkpoints):
    backbone = checkpoints.backbone("wan-2.1")
    backbone.pipeline.transformer._supports_gradient_checkpointing = False
    with pytest.raises(UserError, match=r"'transformer' \(WanTransformer3DModel\) has no gradient checkpointing"):
        backbone.set_gradient_checkpointing(True)


def test_disabling_inside_a_graph_leaves_the_gradient_alone(trained):
    """The reference of the KL term is computed between the forward and the backward pass of the policy."""
    backbone, _ = trained("wan-2.1")
    step = _recorded(backbone)
    parameters = [p for _, p in backbone.trainable_parameters()]
    expected = torch.autograd.grad(backbone.predict(step).square().sum(), parameters)
    loss = backbone.predict(step).square().sum()
    with torch.no_grad(), backbone.adapter_disabled():
        backbone.predict(step)
    assert all(torch.equal(a, b) for a, b in zip(torch.autograd.grad(loss, parameters), expected, strict=True))


def _recorded(backbone):
    from worldr1_backbones.samplers.flow_sde import FlowSDESampler

    scheduler = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    run = PolicyRun(window=(1, 2), generators=[generator(0, i) for i in range(2)], record=True)
    return backbone.sample(
        backbone.encode(PROMPTS), noise(backbone), num_inference_steps=3, scheduler=scheduler, run=run
    ).steps[0]


def test_the_file_states_the_scale(trained):
    _, folder = trained("wan-2.1")
    with safe_open(folder / "pytorch_lora_weights.safetensors", "pt") as file:
        assert '"transformer.lora_alpha": 16.0' in file.metadata()["lora_adapter_metadata"]


def test_without_an_adapter_there_is_nothing_to_save(wan, tmp_path):
    with pytest.raises(UserError, match="no adapter to save"):
        wan.save_adapter(tmp_path / "adapter")
    assert not list(tmp_path.iterdir())


def test_saving_is_all_or_nothing(trained, tmp_path, monkeypatch):
    backbone, _ = trained("wan-2.2-A14B")
    backbone.save_adapter(tmp_path / "adapter")
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    assert len(before) == 2
    whole = type(backbone.pipeline).save_lora_weights

    def fails_at_the_second(folder, **arguments):
        if "transformer_2" in arguments["weight_name"]:
            raise OSError("no space left on device")
        whole(folder, **arguments)

    monkeypatch.setattr(type(backbone.pipeline), "save_lora_weights", fails_at_the_second)
    with pytest.raises(OutputError, match="no space left"):
        backbone.save_adapter(tmp_path / "adapter")
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_that_is_not_there(checkpoints, tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        checkpoints.backbone("wan-2.1").load_adapter(tmp_path)


def test_the_second_transformers_adapter_is_missing(checkpoints, trained):
    _, folder = trained("wan-2.1")
    with pytest.raises(WeightsError, match=r"transformer_2.safetensors.*there is no such file"):
        checkpoints.backbone("wan-2.2-A14B").load_adapter(folder)


@pytest.mark.parametrize(("kind", "other"), [("wan-2.1", "cogvideox-1.5"), ("cogvideox-1.5", "wan-2.1")])
def test_an_adapter_of_another_architecture(checkpoints, trained, kind, other):
    _, folder = trained(kind)
    backbone = checkpoints.backbone(other)
    with pytest.raises(WeightsError, match="belongs to another architecture"):
        backbone.load_adapter(folder)
    backbone.add_adapter(SPEC)  # nothing of the wrong one is left


def test_an_adapter_that_was_cut_short(checkpoints, trained, tmp_path):
    _, folder = trained("wan-2.1")
    data = (folder / "pytorch_lora_weights.safetensors").read_bytes()
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="Cannot load an adapter"):
        checkpoints.backbone("wan-2.1").load_adapter(tmp_path)


def test_an_adapter_that_lacks_a_factor(checkpoints, trained, tmp_path):
    _, folder = trained("wan-2.1")
    path = folder / "pytorch_lora_weights.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    del state[next(key for key in state if "lora_B" in key)]
    save_file(state, tmp_path / path.name, metadata=metadata)
    with pytest.raises(WeightsError, match="it lacks"):
        checkpoints.backbone("wan-2.1").load_adapter(tmp_path)
