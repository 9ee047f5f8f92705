"""Adapters: what is trained, what is written, and that plain diffusers reads it."""

from __future__ import annotations

import json

import pytest
import structlog
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backbones.conftest import PROMPTS, SPEC, latents_of, noise, plain_latents, steer_adapter
from worldr1_core.backbone import AdapterSpec
from worldr1_core.errors import OutputError, UserError, WeightsError
from worldr1_core.policy import PolicyRun
from worldr1_core.seeding import generator


@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-5B", "cogvideox-1.5"])
def test_a_plain_pipeline_reads_the_adapter_and_gives_the_same(checkpoints, trained, kind):
    backbone, folder = trained(kind)
    pipeline = checkpoints.pipeline(kind)
    pipeline.load_lora_weights(str(folder))
    assert torch.equal(plain_latents(pipeline, backbone), latents_of(backbone))


def test_a_plain_pipeline_reads_both_adapters_of_two_transformers(checkpoints, trained):
    backbone, folder = trained("wan-2.2-A14B")
    pipeline = checkpoints.pipeline("wan-2.2-A14B")
    pipeline.load_lora_weights(str(folder))
    second = "pytorch_lora_weights_transformer_2.safetensors"
    pipeline.load_lora_weights(str(folder), weight_name=second, load_into_transformer_2=True)
    assert torch.equal(plain_latents(pipeline, backbone), latents_of(backbone))


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


def test_the_file_lists_its_layers_in_a_fixed_order(trained):
    _, folder = trained("wan-2.1")
    with safe_open(folder / "pytorch_lora_weights.safetensors", "pt") as file:
        written = json.loads(file.metadata()["lora_adapter_metadata"])["transformer.target_modules"]
    assert len(written) > 3
    assert written == sorted(written)


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


def _write_part(trained, folder, keep, *, metadata=None):
    """Write the part of a trained adapter whose keys `keep` takes; `metadata` changes or drops its configuration."""
    path = trained("wan-2.1")[1] / "pytorch_lora_weights.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["lora_adapter_metadata"])
    if metadata is not None:
        config = metadata(config)
    stored = None if config is None else {"format": "pt", "lora_adapter_metadata": json.dumps(config)}
    save_file({key: value for key, value in load_file(path).items() if keep(key)}, folder / path.name, metadata=stored)
    return folder


def _scales(backbone):
    return {s for m in backbone.pipeline.transformer.modules() for s in getattr(m, "scaling", {}).values()}


def test_an_adapter_that_lacks_a_factor(checkpoints, trained, tmp_path):
    folder = _write_part(trained, tmp_path, lambda key: "blocks.0.attn1.to_q.lora_B" not in key)
    with pytest.raises(WeightsError, match="it lacks"):
        checkpoints.backbone("wan-2.1").load_adapter(folder)


@pytest.mark.parametrize(
    ("keep", "count", "example"), [("blocks.0.", 8, "blocks.1.attn1.to_q"), (".to_q.", 12, "blocks.0.attn1.to_k")]
)
def test_an_adapter_that_lacks_layers_its_configuration_names(checkpoints, trained, tmp_path, keep, count, example):
    folder = _write_part(trained, tmp_path, lambda key: keep in key)
    backbone = checkpoints.backbone("wan-2.1")
    with pytest.raises(WeightsError, match=rf"it lacks {count} of the 16 layers .*{example}"):
        backbone.load_adapter(folder)
    backbone.add_adapter(SPEC)  # nothing of it is left


def test_layers_that_the_configuration_leaves_out_are_not_missed(checkpoints, trained, tmp_path):
    folder = _write_part(
        trained,
        tmp_path,
        lambda key: "blocks.0." in key,
        metadata=lambda config: {**config, "transformer.target_modules": r"blocks\.0\..*\.to_(q|k|v|out\.0)"},
    )
    backbone = checkpoints.backbone("wan-2.1")
    backbone.load_adapter(folder)
    assert _scales(backbone) == {16.0 / 4}


@pytest.mark.parametrize(
    ("metadata", "stated", "scale"),
    [
        (lambda _: None, 1.0, 1.0),
        (lambda config: {k: v for k, v in config.items() if not k.endswith("lora_alpha")}, "lora_alpha 8 / rank", 2.0),
    ],
    ids=["no configuration", "no alpha"],
)
def test_an_adapter_without_alpha_warns_with_the_number_of_its_layers(
    checkpoints, trained, tmp_path, metadata, stated, scale
):
    folder = _write_part(trained, tmp_path, lambda _: True, metadata=metadata)
    backbone = checkpoints.backbone("wan-2.1")
    with structlog.testing.capture_logs() as logs:
        backbone.load_adapter(folder)
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "no alpha" in warning["event"]
    assert (warning["layers"], warning["rank"], warning["scale"]) == (16, [4], stated)
    assert _scales(backbone) == {scale}


def test_half_an_adapter_without_configuration_warns(checkpoints, trained, tmp_path):
    folder = _write_part(trained, tmp_path, lambda key: "blocks.1." in key, metadata=lambda _: None)
    backbone = checkpoints.backbone("wan-2.1")
    with structlog.testing.capture_logs() as logs:
        backbone.load_adapter(folder)
    (warning,) = [entry for entry in logs if "only some blocks" in entry["event"]]
    assert (warning["layers"], warning["of_layers_alike"]) == (8, 16)


def test_a_whole_adapter_does_not_warn(checkpoints, trained):
    with structlog.testing.capture_logs() as logs:
        checkpoints.backbone("wan-2.1").load_adapter(trained("wan-2.1")[1])
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


def test_an_alpha_beside_the_file_that_diffusers_would_not_read(checkpoints, trained, tmp_path):
    folder = _write_part(trained, tmp_path, lambda _: True, metadata=lambda _: None)
    (folder / "adapter_config.json").write_text(json.dumps({"lora_alpha": 16, "r": 4}))
    with pytest.raises(WeightsError, match=r"adapter_config.json beside it states lora_alpha 16 for rank \[4\]"):
        checkpoints.backbone("wan-2.1").load_adapter(folder)


def test_an_adapter_with_values_that_are_not_finite(checkpoints, trained, tmp_path):
    folder = _write_part(trained, tmp_path, lambda _: True)
    path = folder / "pytorch_lora_weights.safetensors"
    state = load_file(path)
    state[next(iter(state))][0, 0] = torch.nan
    save_file(state, path)
    with pytest.raises(WeightsError, match="NaN or infinite"):
        checkpoints.backbone("wan-2.1").load_adapter(folder)


def test_alpha_as_tensors_is_another_layout(checkpoints, trained, tmp_path):
    folder = _write_part(trained, tmp_path, lambda _: True)
    path = folder / "pytorch_lora_weights.safetensors"
    save_file({**load_file(path), "transformer.blocks.0.attn1.to_q.alpha": torch.tensor(8.0)}, path)
    with pytest.raises(WeightsError, match=r"as 1 tensors such as 'blocks.0.attn1.to_q.alpha'"):
        checkpoints.backbone("wan-2.1").load_adapter(folder)
