"""Training steps do what they say, and going on equals never having stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors.torch import load_file

from tools.tiny_world.dataset import render_dataset
from tools.tiny_world.model import (
    MAX_TEXT_LENGTH,
    ModelSize,
    PaddedTextProcessor,
    build_tokenizer,
    build_transformer,
    load_pipeline,
)
from tools.tiny_world.muon import Muon, orthogonalise
from tools.tiny_world.pretrain import build_trainer, save_models
from tools.tiny_world.training import TrainingOptions, padding_bias, sample_sigmas
from worldr1_backbones.tiny.captions import sample_caption
from worldr1_backbones.tiny.data import make_clip, render_clip
from worldr1_backbones.tiny.vae import TinyWanVAE

SMALL = ModelSize(num_heads=2, head_dim=16, num_layers=1, ffn_dim=32, text_dim=32, text_layers=1, z_dim=4)


def _trainer(seed: int = 0, **options):
    generator = torch.Generator().manual_seed(5)
    captions = [sample_caption(generator).text for _ in range(16)]
    latents = torch.randn(16, 4, 3, 4, 4, generator=generator)
    return build_trainer(
        SMALL, latents, captions, TrainingOptions(batch_size=8, seed=seed, **options), compile_model=False
    )


def test_every_caption_is_spelled_by_the_tokenizer():
    tokenizer = build_tokenizer()
    generator = torch.Generator().manual_seed(0)
    ids = tokenizer([sample_caption(generator, dynamic=0.5).text for _ in range(500)]).input_ids
    assert max(len(i) for i in ids) < MAX_TEXT_LENGTH
    assert tokenizer.unk_token_id not in {token for i in ids for token in i}
    assert all(i[-1] == tokenizer.eos_token_id for i in ids)


@pytest.mark.parametrize("total", [32, 57, 512])
def test_the_padding_bias_equals_real_padding(total):
    torch.manual_seed(0)
    model = build_transformer(SMALL)
    torch.nn.init.normal_(model.proj_out.weight)
    lengths = torch.tensor([3, 20])
    text = torch.randn(2, MAX_TEXT_LENGTH, 32) * (torch.arange(MAX_TEXT_LENGTH) < lengths[:, None])[..., None]
    x, t = torch.randn(2, 4, 3, 4, 4), torch.tensor([300.0, 900.0])
    padded = torch.cat([text, torch.zeros(2, total - MAX_TEXT_LENGTH, 32)], dim=1)
    with torch.no_grad():
        wanted = model(x, t, padded, return_dict=False)[0]
        processor = PaddedTextProcessor()
        processor.bias = padding_bias(lengths, total)
        for block in model.blocks:
            block.attn2.set_processor(processor)
        got = model(x, t, text, return_dict=False)[0]
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_noise_levels_follow_their_distribution():
    sigma = sample_sigmas(200_000, torch.Generator().manual_seed(0))
    assert sigma.min() > 0
    assert sigma.max() < 1
    grid = torch.tensor([0.2, 0.5, 0.8])
    times = grid / (2 - grid)  # inverse of the shift by 2
    normal = torch.distributions.Normal(0.3, 1.0)
    wanted = 0.9 * normal.cdf(torch.logit(times)) + 0.1 * times
    torch.testing.assert_close((sigma[:, None] < grid).double().mean(0).float(), wanted, atol=5e-3, rtol=0)


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 48), (2, 48, 16)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrices).float()
    values = torch.linalg.svdvals(result)
    assert values.max() < 1.3
    assert values.median() > 0.6
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(result.flatten(1), (u @ vh).flatten(1)).min() > 0.93


def test_muon_descends():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(12, 12))
    target, optimizer = torch.randn(12, 12), Muon([weight], lr=0.05, weight_decay=0.0)
    losses = []
    for _ in range(200):
        loss = (weight - target).pow(2).mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.05 * losses[0]


def test_the_loss_falls_and_everything_is_trained():
    trainer = _trainer()
    before = [p.detach().clone() for p in trainer.params]
    losses = [trainer.step(0.0) for _ in range(60)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.params, strict=True)]
    assert sum(moved) >= len(moved) - 1  # the last rows of the relative position table are never met


def test_an_adapter_is_trained_alone_and_saved_with_the_models_that_it_changes(tmp_path):
    vae = TinyWanVAE(z_dim=SMALL.z_dim, latents_mean=[0.0] * SMALL.z_dim, latents_std=[1.0] * SMALL.z_dim)
    trainer = _trainer(adapter_rank=2)
    weights = {name: p.detach().clone() for name, p in trainer.transformer.named_parameters() if "lora" not in name}
    for _ in range(5):
        trainer.step(0.0)
    assert all(torch.equal(p, weights[n]) for n, p in trainer.transformer.named_parameters() if "lora" not in n)
    assert not [p for p in trainer.encoder.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainer.params) == 2 * (8 * (32 + 32) + 2 * (32 + 32))  # 8 attention, 2 feed-forward

    for average in trainer.average:  # what five steps do is below the precision of half floats
        average.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    save_models(tmp_path, trainer, vae)
    stored = load_file(tmp_path / "adapter" / "pytorch_lora_weights.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    fused, source = load_pipeline(tmp_path / "pipeline").transformer.state_dict(), "blocks.0.ffn.net.2"
    change = (
        stored[f"transformer.{source}.lora_B.weight"].float() @ stored[f"transformer.{source}.lora_A.weight"].float()
    )
    assert change.abs().max() > 0.01
    before = weights[f"{source}.base_layer.weight"]
    torch.testing.assert_close(fused[f"{source}.weight"], before + change, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("rank", [0, 2])
def test_going_on_equals_never_having_stopped(tmp_path, rank):
    straight = _trainer(adapter_rank=rank)
    losses = [straight.step(0.1) for _ in range(6)]
    first = _trainer(adapter_rank=rank)
    for _ in range(3):
        first.step(0.1)
    first.save(tmp_path / "state.pt")
    second = _trainer(adapter_rank=rank)
    second.load(tmp_path / "state.pt")
    assert [second.step(0.1) for _ in range(3)] == losses[3:]
    assert all(torch.equal(a, b) for a, b in zip(straight.params, second.params, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(straight.average, second.average, strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_the_average_is_lent_and_given_back():
    trainer = _trainer()
    for _ in range(3):
        trainer.step(0.0)
    own = [p.detach().clone() for p in trainer.params]
    with trainer.averaged():
        assert all(torch.equal(a, b) for a, b in zip(trainer.params, trainer.average, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(trainer.params, own, strict=True))


def test_the_saved_transformer_has_the_processors_of_diffusers():
    from tools.tiny_world.pretrain import build_transformer_like

    copy = build_transformer_like(_trainer())
    assert all(type(block.attn2.processor) is WanAttnProcessor for block in copy.blocks)


def test_rendering_goes_on_after_a_torn_line(tmp_path):
    whole, captions = render_dataset(tmp_path / "whole", 5, seed=3)
    render_dataset(tmp_path / "parts", 3, seed=3)
    lines = tmp_path / "parts" / "captions.jsonl"
    lines.write_text(lines.read_text() + '"Camera pu')
    frames, again = render_dataset(tmp_path / "parts", 5, seed=3)
    assert again == captions
    assert np.array_equal(frames, whole)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == captions


def test_a_clip_is_a_function_of_its_number():
    a, b = make_clip(4, seed=1), make_clip(4, seed=1)
    assert a.caption == b.caption
    assert torch.equal(render_clip(a), render_clip(b))
    assert make_clip(5, seed=1).scene != a.scene
    assert make_clip(4, seed=1, held_out=True).caption.held_out
