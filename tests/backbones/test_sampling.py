"""Sampling and decoding against the plain diffusers pipeline, and what sampling refuses."""

from __future__ import annotations

import diffusers
import pytest
import torch
from packaging.version import Version

from backbones.conftest import KINDS, PROMPTS, noise
from worldr1_backbones.guidance import separate_passes, stacked_passes
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_backbones.wan import WanBackbone
from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.noise import InitialNoise
from worldr1_core.policy import PolicyRun
from worldr1_core.rollout import rollout_groups
from worldr1_core.seeding import generator

STEPS = 4


def _plain(checkpoints, backbone, kind, latents, output_type, **options):
    """What a user of diffusers gets from the same prompts and latents."""
    pipeline = checkpoints.pipeline(kind, **options)
    pipeline.scheduler = backbone.base_scheduler
    side = KINDS[kind][2]
    return pipeline(
        prompt=PROMPTS[: len(latents)],
        negative_prompt=[""] * len(latents),
        height=side,
        width=side,
        num_frames=9,
        guidance_scale=backbone.config.guidance_scale,
        max_sequence_length=16,
        num_inference_steps=STEPS,
        latents=backbone.to_pipeline(latents),
        output_type=output_type,
        return_dict=False,
    )[0]


@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_those_of_the_plain_pipeline(checkpoints, kind):
    backbone = checkpoints.backbone(kind)
    latents = noise(backbone)
    ours = backbone.sample(backbone.encode(PROMPTS), latents, num_inference_steps=STEPS).latents
    assert torch.equal(backbone.to_pipeline(ours), _plain(checkpoints, backbone, kind, latents, "latent"))


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_the_plain_pipeline(checkpoints, kind):
    backbone = checkpoints.backbone(kind)
    latents = noise(backbone, 1)
    rollout = backbone.sample(backbone.encode(PROMPTS[:1]), latents, num_inference_steps=STEPS)
    frames = backbone.decode(rollout.latents)
    assert frames.shape == (1, 9, 3, KINDS[kind][2], KINDS[kind][2])
    assert torch.equal(frames, _plain(checkpoints, backbone, kind, latents, "pt"))


def test_videos_are_decoded_one_after_another(wan):
    latents = noise(wan)
    assert torch.equal(wan.decode(latents), torch.cat([wan.decode(latents[:1]), wan.decode(latents[1:])]))


@pytest.mark.parametrize("kind", KINDS)
def test_videos_can_be_decoded_together(checkpoints, kind):
    single, together = checkpoints.backbone(kind), checkpoints.backbone(kind, decode_batch_size=2)
    latents = torch.cat([noise(single, 2), noise(single, 1)])
    torch.testing.assert_close(together.decode(latents), single.decode(latents), rtol=0, atol=1e-5)


def test_in_bfloat16_latents_are_those_of_the_plain_pipeline(checkpoints):
    backbone = checkpoints.backbone("wan-2.1", dtype="bfloat16")
    types = {"vae": torch.float32, "default": torch.bfloat16}
    argument = "dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype"
    latents = noise(backbone)
    ours = backbone.sample(backbone.encode(PROMPTS), latents, num_inference_steps=STEPS).latents
    assert torch.equal(ours, _plain(checkpoints, backbone, "wan-2.1", latents, "latent", **{argument: types}))
    pipeline = backbone.pipeline
    assert (pipeline.vae.dtype, pipeline.transformer.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-A14B", "cogvideox-1.5"])
def test_decoding_does_not_need_a_prompt(checkpoints, kind):
    backbone = checkpoints.backbone(kind)
    latents = noise(backbone, 1)
    before = backbone.decode(latents)
    backbone.encode(PROMPTS)
    assert torch.equal(backbone.decode(latents), before)


def test_without_guidance_nothing_negative_is_encoded_and_the_denoiser_is_called_once(checkpoints):
    backbone = checkpoints.backbone("wan-2.1", guidance_scale=1.0)
    conditioning = backbone.encode(PROMPTS)
    assert set(conditioning.tensors) == {"prompt_embeds"}
    run = PolicyRun(window=(0, 1), generators=[generator(0, i) for i in range(2)], record=True)
    scheduler = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    rollout = backbone.sample(conditioning, noise(backbone), num_inference_steps=2, scheduler=scheduler, run=run)
    assert [len(step.calls) for step in rollout.steps] == [1]


@pytest.mark.parametrize("kind", ["wan-2.1", "wan-2.2-A14B", "cogvideox-1.5"])
def test_a_group_branches_from_its_prefix(checkpoints, kind):
    """Members share the latents before the window, and differ after it."""
    backbone = checkpoints.backbone(kind)
    from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler

    sampler = DDIMSDESampler() if kind.startswith("cog") else FlowSDESampler()
    rollout = rollout_groups(
        backbone,
        sampler.make_scheduler(backbone.base_scheduler),
        backbone.encode(PROMPTS),
        [InitialNoise(latents) for latents in noise(backbone)],
        num_inference_steps=STEPS,
        window=(1, 2),
        group_size=3,
        generators=[generator(0, i) for i in range(6)],
    )
    assert rollout.latents.shape == (6, *backbone.geometry.shape)
    (step,) = rollout.steps
    groups = step.sample.unflatten(0, (2, 3))
    assert torch.equal(groups[:, :1].expand_as(groups), groups)
    assert not torch.equal(groups[0], groups[1])
    drawn = step.next_sample.flatten(1)
    assert float(torch.pdist(drawn).min()) > 0


class _WrongScale(WanBackbone):
    def guide(self, outputs, module):
        return separate_passes(outputs, self.config.guidance_scale + 1e-3)


class _WrongOrder(WanBackbone):
    def guide(self, outputs, module):
        return separate_passes(outputs[::-1], self.config.guidance_scale)


@pytest.mark.parametrize("wrong", [_WrongScale, _WrongOrder])
def test_a_wrong_guidance_rule_is_an_error(checkpoints, wrong):
    backbone = wrong(**checkpoints.options("wan-2.1"))
    scheduler = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    run = PolicyRun(window=(1, 2), generators=[generator(0)], record=True)
    with pytest.raises(WorldR1Error, match="guidance rule does not give what the pipeline gave"):
        backbone.sample(
            backbone.encode(PROMPTS[:1]), noise(backbone, 1), num_inference_steps=2, scheduler=scheduler, run=run
        )


def test_guidance_formulas():
    conditional, unconditional = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])
    expected = torch.tensor([1.0 + 4 * 2.0, 2.0 - 4 * 1.0])
    assert torch.equal(separate_passes([conditional, unconditional], 4.0), expected)
    stacked = torch.stack([unconditional, conditional])
    assert torch.equal(stacked_passes([stacked], 4.0)[0], expected)
    assert torch.equal(stacked_passes([stacked], 1.0), stacked)
    assert torch.equal(separate_passes([conditional], 1.0), conditional)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(wan, value):
    latents = noise(wan)
    latents[1, 0, 0, 0, 0] = value
    with pytest.raises(UserError, match=r"NaN or infinite values in samples \[1\]"):
        wan.sample(wan.encode(PROMPTS), latents, num_inference_steps=STEPS)
    with pytest.raises(UserError, match="must be finite"):
        wan.decode(latents)


def test_latents_of_another_shape_or_type_are_refused(wan):
    conditioning = wan.encode(PROMPTS)
    for latents, words in (
        (noise(wan, 3), "latents must be"),
        (noise(wan)[:, :, :2], "latents must be"),
        (noise(wan).bfloat16(), "must be float32"),
    ):
        with pytest.raises(UserError, match=words):
            wan.sample(conditioning, latents, num_inference_steps=STEPS)


def test_a_model_that_gives_nan_is_an_error(checkpoints):
    backbone = checkpoints.backbone("wan-2.1")
    backbone.pipeline.transformer.proj_out.bias.data.fill_(float("nan"))
    with pytest.raises(WorldR1Error, match="NaN or infinite latents in samples"):
        backbone.sample(backbone.encode(PROMPTS), noise(backbone), num_inference_steps=STEPS)


def test_a_run_needs_a_policy(wan):
    with pytest.raises(UserError, match="needs a policy scheduler"):
        wan.sample(wan.encode(PROMPTS), noise(wan), num_inference_steps=STEPS, run=PolicyRun())


@pytest.mark.parametrize("prompts", [[], "one string"])
def test_prompts_must_be_a_list(wan, prompts):
    with pytest.raises(UserError, match="list of at least one prompt"):
        wan.encode(prompts)


def test_a_failed_run_leaves_no_hooks_and_no_policy_behind(checkpoints):
    backbone = checkpoints.backbone("wan-2.1")
    transformer, own = backbone.pipeline.transformer, backbone.pipeline.scheduler
    scheduler = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    run = PolicyRun(window=(0, 1), generators=[], record=True)
    with pytest.raises(ValueError, match="one generator per sample"):
        backbone.sample(backbone.encode(PROMPTS), noise(backbone), num_inference_steps=2, scheduler=scheduler, run=run)
    assert not transformer._forward_hooks
    assert not transformer._forward_pre_hooks
    assert scheduler.run is None
    assert backbone.pipeline.scheduler is own


def test_vae_tiling_is_switched_on(checkpoints):
    assert checkpoints.backbone("wan-2.1", vae_tiling=True).pipeline.vae.use_tiling
