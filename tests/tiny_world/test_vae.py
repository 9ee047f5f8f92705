"""The VAE keeps the interface of the Wan VAE, and clips survive it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner
from diffusers import AutoencoderKLWan

from tools.tiny_world import refit_decoder
from tools.tiny_world.evaluate import generate
from tools.tiny_world.fit_vae import (
    block_contrast,
    fit_bases,
    fit_decoder,
    latent_scale,
    reconstruction_psnr,
    regenerate,
    to_model_range,
)
from tools.tiny_world.model import load_pipeline
from worldr1_backbones.tiny import CHECKPOINT, TinyWanVAE
from worldr1_backbones.tiny.data import make_clip, render_clip


@pytest.fixture(scope="module")
def clips():
    return [make_clip(i, seed=77, held_out=True) for i in range(12)]


@pytest.fixture(scope="module")
def frames(clips):
    return torch.stack([render_clip(clip) for clip in clips])


@pytest.fixture(scope="module")
def captions(clips):
    return [clip.caption.text for clip in clips]


@pytest.fixture(scope="module")
def as_bytes(frames):
    return (frames * 255).round().to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def shipped():
    return TinyWanVAE.from_pretrained(CHECKPOINT / "vae", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(CHECKPOINT)


def _fresh(z_dim: int = 48) -> TinyWanVAE:
    torch.manual_seed(0)
    return TinyWanVAE(z_dim=z_dim, latents_mean=[0.0] * z_dim, latents_std=[1.0] * z_dim, hidden=16, num_layers=1)


def test_the_config_has_what_the_pipeline_reads(shipped):
    wan = AutoencoderKLWan(base_dim=4, z_dim=2, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False])
    for name in ("z_dim", "latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial"):
        assert name in wan.config
        assert type(wan.config[name]) is type(shipped.config[name]), name
    assert len(shipped.config.latents_mean) == len(shipped.config.latents_std) == shipped.config.z_dim <= 64
    assert (shipped.config.scale_factor_temporal, shipped.config.scale_factor_spatial) == (4, 8)


@pytest.mark.parametrize("num_frames", [1, 5, 9, 17])
def test_shapes_are_those_of_wan(shipped, num_frames):
    clip = torch.rand(2, 3, num_frames, 32, 48) * 2 - 1
    latents = shipped.encode(clip).latent_dist.mode()
    assert latents.shape == (2, shipped.config.z_dim, 1 + (num_frames - 1) // 4, 4, 6)
    decoded = shipped.decode(latents, return_dict=False)[0]
    assert decoded.shape == clip.shape
    assert decoded.abs().max() <= 1


def test_the_first_frame_is_a_latent_frame_of_its_own(shipped):
    clip = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    other = clip.clone()
    other[:, :, 1:] = 0
    first, second = (shipped.encode(c).latent_dist.mode() for c in (clip, other))
    torch.testing.assert_close(first[:, :, :1], second[:, :, :1])
    assert not torch.allclose(first[:, :, 1:], second[:, :, 1:])


def test_fresh_clips_survive_the_shipped_vae(shipped, as_bytes):
    assert reconstruction_psnr(shipped, as_bytes) > 27.5


def test_the_network_improves_on_linear_patches(shipped, as_bytes):
    linear = TinyWanVAE.from_config(shipped.config)
    linear.load_state_dict(shipped.state_dict())
    for head in (linear.image_head, linear.video_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    assert reconstruction_psnr(shipped, as_bytes) > reconstruction_psnr(linear, as_bytes) + 0.5


@pytest.mark.parametrize("overlap", [0, 2, 4])
def test_patches_of_the_residual_overlap(overlap):
    vae = TinyWanVAE(z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4, hidden=8, num_layers=0, overlap=overlap)
    vae.requires_grad_(False)
    for head in (vae.image_head, vae.video_head):
        torch.nn.init.ones_(head.weight)
    features = torch.zeros(1, 8, 2, 3, 3)
    features[:, 0, 1, 1, 1] = 1.0
    residual = vae._residual(vae.video_head, features)
    assert residual.shape == (1, 3, 8, 24, 24)
    reached = torch.zeros(24, dtype=torch.bool)
    reached[8 - overlap : 16 + overlap] = True
    assert torch.equal(residual[0, 0, 4] != 0, reached[:, None] & reached)
    assert not residual[:, :, :4].any()


def test_block_contrast_sees_patch_borders_alone():
    noise = torch.randn(40, 64, 64, generator=torch.Generator().manual_seed(0))
    assert block_contrast(noise, 8) == pytest.approx(1, abs=0.03)
    blocks = torch.randn(40, 8, 8, generator=torch.Generator().manual_seed(1))
    blocks = blocks.repeat_interleave(8, -1).repeat_interleave(8, -2)
    assert block_contrast(noise + blocks, 8) == pytest.approx(2**0.5, abs=0.05)


def test_patch_borders_of_generated_clips_hardly_show(pipeline, captions, as_bytes):
    generated = block_contrast(generate(pipeline, captions), 8)
    assert 0.9 < block_contrast(to_model_range(as_bytes), 8) < 1.1
    assert 1.0 < generated < 1.35  # 1.7 if the patches of the residual do not overlap


def test_regenerated_clips_are_the_same_scenes_with_errors_of_the_model(pipeline, captions, as_bytes):
    latents = pipeline.vae.encode(to_model_range(as_bytes)).latent_dist.mode() / latent_scale(pipeline.vae)
    small, large = (regenerate(pipeline, latents, captions, noise_levels=(s, s), batch_size=5) for s in (0.1, 0.8))
    assert small.shape == latents.shape
    assert torch.equal(small, regenerate(pipeline, latents, captions, noise_levels=(0.1, 0.1), batch_size=5))
    errors = [float((z.float() - latents).pow(2).mean().sqrt()) for z in (small, large)]
    assert 0.02 < errors[0] < 0.2 < errors[1] < 1.0


def test_a_new_decoder_keeps_the_latent_space(shipped, as_bytes):
    fresh, clips = refit_decoder.new_decoder(shipped), to_model_range(as_bytes[:2])
    assert torch.equal(fresh.encode(clips).latent_dist.mode(), shipped.encode(clips).latent_dist.mode())
    assert fresh.config.latents_std == shipped.config.latents_std
    assert not fresh.image_head.weight.any()


def test_a_decoder_learns_to_bear_errors_of_latents(as_bytes):
    clips = to_model_range(as_bytes)
    errors = {}
    for share in (0.0, 1.0):
        vae = _fresh()
        fit_bases(vae, clips)
        with torch.no_grad():
            latents = vae.encode(clips).latent_dist.mode() / latent_scale(vae)
        wrong = latents + torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        fit_decoder(vae, as_bytes, steps=60, regenerated=wrong, share=share, batch_size=4)
        with torch.no_grad():
            errors[share] = float((vae.synthesise(wrong * latent_scale(vae)) - clips).pow(2).mean())
    assert errors[1.0] < 0.95 * errors[0.0]


def test_normalised_latents_have_unit_power(shipped, as_bytes):
    latents = shipped.encode(to_model_range(as_bytes)).latent_dist.mode()
    scaled = latents / latent_scale(shipped)
    assert 0.8 < scaled.pow(2).mean().sqrt() < 1.2


def test_bases_are_the_principal_components(as_bytes):
    vae, clips = _fresh(), to_model_range(as_bytes)
    fit_bases(vae, clips)
    torch.testing.assert_close(vae.video_basis @ vae.video_basis.T, torch.eye(48), atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.image_basis @ vae.image_basis.T, torch.eye(48), atol=1e-4, rtol=0)
    patches = vae.patches(clips)[1].flatten(0, 3)
    patches = patches - patches.mean(0)
    kept = (patches @ vae.video_basis.detach().T).pow(2).sum() / patches.pow(2).sum()
    singular = torch.linalg.svdvals(patches.double())
    assert math.isclose(kept, (singular[:48] ** 2).sum() / (singular**2).sum(), rel_tol=1e-4)


def test_a_still_patch_says_the_same_in_every_latent_frame(as_bytes):
    vae, clips = _fresh(), to_model_range(as_bytes)
    fit_bases(vae, clips)
    still = clips[:, :, :1].expand(-1, -1, 9, -1, -1)
    z = vae.encode(still).latent_dist.mode()
    cosine = torch.nn.functional.cosine_similarity(z[:, :, 0].flatten(1), z[:, :, 1].flatten(1))
    assert cosine.min() > 0.9


def test_the_decoder_learns(as_bytes):
    vae = _fresh()
    fit_bases(vae, to_model_range(as_bytes))
    before = reconstruction_psnr(vae, as_bytes)
    losses = []
    fit_decoder(vae, as_bytes, steps=60, batch_size=4, on_step=lambda step, loss: losses.append(loss))
    assert losses
    assert reconstruction_psnr(vae, as_bytes) > before + 0.1


@pytest.mark.slow
def test_the_command_fits_a_decoder_that_takes_the_place_of_the_shipped_one(shipped, as_bytes, tmp_path):
    arguments = ["--out", str(tmp_path), "--clips", "128", "--steps", "20"]
    result = CliRunner().invoke(refit_decoder.main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["block_contrast_rendered"] == pytest.approx(1, abs=0.1)
    assert figures["psnr"] > figures["psnr_generated"] > 15
    fitted = TinyWanVAE.from_pretrained(tmp_path / "vae")
    assert (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size < 1_700_000  # half precision
    assert {n: p.shape for n, p in fitted.named_parameters()} == {n: p.shape for n, p in shipped.named_parameters()}
    latents = fitted.encode(to_model_range(as_bytes)).latent_dist.mode()
    assert torch.equal(latents, shipped.encode(to_model_range(as_bytes)).latent_dist.mode())


@pytest.mark.parametrize("shape", [(1, 3, 8, 16, 16), (1, 4, 9, 16, 16), (3, 9, 16, 16)])
def test_clips_of_another_form_are_refused(shape):
    with pytest.raises(ValueError, match=r"4k \+ 1"):
        _fresh().encode(torch.zeros(shape))


def test_tiling_and_slicing_change_nothing(shipped):
    latents = torch.randn(2, shipped.config.z_dim, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = shipped.decode(latents).sample
    shipped.enable_tiling()
    shipped.enable_slicing()
    assert torch.equal(shipped.decode(latents).sample, before)
    shipped.disable_tiling()
    shipped.disable_slicing()
    assert torch.equal(shipped.decode(latents).sample, before)
