"""What is particular to each model: schedules, layouts, timesteps, guidance, options."""

from __future__ import annotations

import pytest
import torch

from backbones.conftest import PROMPTS, noise
from worldr1_backbones.cogvideox import CogVideoXBackbone
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_backbones.wan import TinyWanBackbone, WanBackbone
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyRun
from worldr1_core.seeding import generator


def _record(backbone, sampler, steps=4):
    scheduler = sampler.make_scheduler(backbone.base_scheduler)
    run = PolicyRun(window=(0, steps - 1), generators=[generator(0, i) for i in range(2)], record=True)
    conditioning = backbone.encode(PROMPTS)
    return backbone.sample(conditioning, noise(backbone), num_inference_steps=steps, scheduler=scheduler, run=run).steps


@pytest.mark.parametrize(("size", "shift"), [((480, 832), 3.0), ((720, 1280), 5.0), ((704, 1280), 3.0)])
def test_wans_flow_shift_follows_the_height(checkpoints, size, shift):
    height, width = size
    backbone = checkpoints.backbone("wan-2.1", height=height, width=width)
    assert backbone.base_scheduler.config.flow_shift == shift


def test_the_configured_flow_shift_wins(checkpoints):
    assert checkpoints.backbone("wan-2.1", flow_shift=8.0).base_scheduler.config.flow_shift == 8.0


def test_the_flow_shift_bends_the_schedule(checkpoints):
    """sigma = shift t / (1 + (shift - 1) t), for t evenly spaced."""
    for shift in (1.0, 3.0, 7.0):
        scheduler = checkpoints.backbone("wan-2.1", flow_shift=shift).base_scheduler
        scheduler.set_timesteps(10)
        t = torch.linspace(1, 1 / 1000, 11)[:-1]
        torch.testing.assert_close(scheduler.sigmas[:-1], shift * t / (1 + (shift - 1) * t), atol=1e-5, rtol=0)


def test_tiny_wan_keeps_the_checkpoints_shift(checkpoints):
    backbone = TinyWanBackbone(path=str(checkpoints.folder("wan-2.1")))
    assert backbone.base_scheduler.config.flow_shift == 3.0
    assert (
        TinyWanBackbone(path=str(checkpoints.folder("wan-2.1")), flow_shift=2.0).base_scheduler.config.flow_shift == 2.0
    )
    assert (backbone.geometry.video_height, backbone.geometry.video_frames) == (64, 9)


def test_defaults_are_the_papers():
    wan, cogvideox = WanBackbone().config, CogVideoXBackbone().config
    assert (wan.height, wan.width, wan.num_frames, wan.guidance_scale, wan.max_sequence_length) == (
        480,
        832,
        81,
        5.0,
        512,
    )
    assert (cogvideox.guidance_scale, cogvideox.max_sequence_length, cogvideox.num_frames) == (6.0, 226, 81)


def test_wan_5b_has_a_timestep_for_every_token(checkpoints):
    backbone = checkpoints.backbone("wan-2.2-5B")
    geometry = backbone.geometry
    assert (geometry.spatial_stride, geometry.channels) == (16, 48)
    tokens = geometry.num_frames * (geometry.height // 2) * (geometry.width // 2)
    for step in _record(backbone, FlowSDESampler()):
        for call in step.calls:
            assert call.kwargs["timestep"].shape == (2, tokens)
            assert call.kwargs["timestep"].unique().tolist() == [step.point.timestep]


def test_wan_a14b_changes_transformers_at_the_boundary(checkpoints):
    backbone = checkpoints.backbone("wan-2.2-A14B")
    for step in _record(backbone, FlowSDESampler(), steps=8):
        expected = "transformer" if step.point.timestep >= 875 else "transformer_2"
        assert {call.module for call in step.calls} == {expected}


def test_the_second_guidance_scale_steers_the_low_noise_transformer_alone(checkpoints):
    conditional, unconditional = torch.tensor([2.0]), torch.tensor([1.0])
    backbone = checkpoints.backbone("wan-2.2-A14B", guidance_scale=4.0, guidance_scale_2=3.0)
    guided = [float(backbone.guide([conditional, unconditional], m)) for m in ("transformer", "transformer_2")]
    assert guided == [5.0, 4.0]
    assert len(_record(backbone, FlowSDESampler(), steps=6)) == 5  # and the pipeline agrees, or it would raise


def test_a_second_guidance_scale_without_a_second_transformer_is_refused(checkpoints):
    backbone = checkpoints.backbone("wan-2.1", guidance_scale_2=3.0)
    with pytest.raises(UserError, match="guidance_scale_2 is for checkpoints with two transformers"):
        backbone.sample(backbone.encode(PROMPTS), noise(backbone), num_inference_steps=2)


@pytest.mark.parametrize(("frames", "latent_frames", "padding"), [(9, 3, 1), (13, 4, 0), (1, 1, 1)])
def test_cogvideox_1_5_pads_frames_in_front(checkpoints, frames, latent_frames, padding):
    geometry = checkpoints.backbone("cogvideox-1.5", num_frames=frames).geometry
    assert (geometry.num_frames, geometry.leading_padding) == (latent_frames, padding)


def test_cogvideox_1_0_pads_none(checkpoints):
    assert checkpoints.backbone("cogvideox-1.0").geometry.leading_padding == 0


def test_cogvideox_decodes_the_frames_behind_the_padding(checkpoints):
    backbone = checkpoints.backbone("cogvideox-1.5")
    latents = noise(backbone, 1)
    padded = latents.clone()
    padded[:, :, 0] = 0
    assert torch.equal(backbone.decode(latents), backbone.decode(padded))


def test_cogvideox_shares_rotary_embeddings(checkpoints):
    backbone = checkpoints.backbone("cogvideox-1.5")
    step = _record(backbone, DDIMSDESampler())[0]
    chosen = backbone.select_step(step, [1])
    whole, part = step.calls[0].kwargs, chosen.calls[0].kwargs
    assert part["hidden_states"].shape[0] == 2  # unconditional and conditional
    assert torch.equal(part["hidden_states"], whole["hidden_states"][[1, 3]])
    assert part["image_rotary_emb"] is whole["image_rotary_emb"]


def test_cogvideox_is_deterministic_though_its_checkpoint_names_a_stochastic_scheduler(checkpoints, tmp_path):
    from diffusers import CogVideoXDPMScheduler

    pipeline = checkpoints.pipeline("cogvideox-1.5")
    pipeline.scheduler = CogVideoXDPMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "dpm")
    backbone = checkpoints.backbone("cogvideox-1.5", path=str(tmp_path / "dpm"))
    conditioning, latents = backbone.encode(PROMPTS), noise(backbone)
    first, second = (backbone.sample(conditioning, latents, num_inference_steps=3).latents for _ in range(2))
    assert torch.equal(first, second)
    own = checkpoints.backbone("cogvideox-1.5")
    assert torch.equal(own.sample(conditioning, latents, num_inference_steps=3).latents, first)


def test_samplers_of_the_other_family_are_refused(checkpoints, wan):
    with pytest.raises(UserError, match="flow"):
        FlowSDESampler().make_scheduler(checkpoints.backbone("cogvideox-1.5").base_scheduler)
    with pytest.raises(UserError, match="flow-sde"):
        DDIMSDESampler().make_scheduler(wan.base_scheduler)
