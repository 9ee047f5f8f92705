"""Videos to latents: the inverse of decoding, normalised as the denoisers see them."""

from __future__ import annotations

import pytest
import torch

from backbones.conftest import KINDS
from worldr1_backbones.tiny.data import make_clip, render_clip
from worldr1_backbones.wan import TinyWanBackbone, WanBackbone
from worldr1_core.errors import UserError


@pytest.fixture(scope="module")
def tiny():
    return TinyWanBackbone()


@pytest.fixture(scope="module")
def renders():
    return torch.stack([render_clip(make_clip(index, seed=5, held_out=True)) for index in range(2)])


def random_frames(backbone, count=1):
    geometry = backbone.geometry
    shape = (count, geometry.video_frames, 3, geometry.video_height, geometry.video_width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_pipeline_decodes_what_its_vae_decodes_of_the_mode(checkpoints, kind):
    """With random weights nothing is reconstructed; but decoding must undo normalisation and padding exactly."""
    backbone = checkpoints.backbone(kind)
    frames = random_frames(backbone)
    latents = backbone.encode_video(frames)
    assert (latents.dtype, tuple(latents.shape[1:])) == (torch.float32, backbone.geometry.shape)
    vae = backbone.pipeline.vae
    with torch.no_grad():
        mode = vae.encode(2 * frames.movedim(2, 1) - 1).latent_dist.mode()
        expected = (vae.decode(mode).sample / 2 + 0.5).clamp(0, 1).movedim(1, 2)
    torch.testing.assert_close(backbone.decode(latents), expected, atol=1e-5, rtol=0)


def test_padding_repeats_the_first_frame(checkpoints):
    backbone = checkpoints.backbone("cogvideox-1.5")
    padding = backbone.geometry.leading_padding
    latents = backbone.encode_video(random_frames(backbone))
    assert padding > 0
    torch.testing.assert_close(
        latents[:, :, :padding], latents[:, :, padding : padding + 1].expand(-1, -1, padding, -1, -1)
    )


def test_true_clips_of_the_tiny_world_survive(tiny, renders):
    decoded = tiny.decode(tiny.encode_video(renders))
    psnr = -10 * (decoded - renders).square().mean((1, 2, 3, 4)).log10()
    assert float(psnr.min()) > 26


def test_latents_of_true_clips_are_normalised(tiny, renders):
    """The denoiser was trained on latents of mean 0 and standard deviation 1."""
    latents = tiny.encode_video(renders)
    assert abs(float(latents.mean())) < 0.2
    assert 0.7 < float(latents.std()) < 1.3


def test_videos_are_encoded_one_by_one(tiny, renders):
    together = tiny.encode_video(renders)
    torch.testing.assert_close(together[1:], tiny.encode_video(renders[1:]))
    assert not together.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: frames[:, :-1], "Cut and resize"),
        (lambda frames: frames[0], "Cut and resize"),
        (lambda frames: frames[..., :-8], "Cut and resize"),
        (lambda frames: frames * 255, r"RGB in \[0, 1\], received values"),
        (lambda frames: (frames * 255).byte(), "floating-point"),
        (lambda frames: frames / 0, "NaN or infinite"),
    ],
)
def test_frames_that_do_not_fit_are_refused(tiny, renders, change, message):
    with pytest.raises(UserError, match=message):
        tiny.encode_video(change(renders))


def test_backbone_that_does_not_say_how_it_normalises_has_no_encoder(checkpoints):
    class Silent(WanBackbone):
        normalise = WanBackbone.__mro__[1].normalise

    backbone = Silent(**checkpoints.options("wan-2.1"))
    with pytest.raises(UserError, match="Override normalise"):
        backbone.encode_video(random_frames(backbone))
