"""Fitting the tiny VAE: principal components in closed form, then the decoder's network by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray
from torch import Tensor

from tools.tiny_world.muon import FAST_BFLOAT16
from worldr1_backbones.tiny.vae import TinyWanVAE

_PCA_CLIPS = 1500
ENCODER = ("_basis", "_mean")
"""Ends of the names of the encoder's parameters."""


def to_model_range(frames: NDArray[np.uint8]) -> Tensor:
    """`(B, T, 3, H, W)` bytes as `(B, 3, T, H, W)` float32 in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).float().permute(0, 2, 1, 3, 4) / 127.5 - 1


@torch.no_grad()
def fit_bases(vae: TinyWanVAE, clips: Tensor) -> None:
    """Set the encoder to the principal components of patches, and the latent statistics to match.

    The first frame's components are turned within their subspace (orthogonal Procrustes) so that a channel says the
    same of a still patch in the first latent frame and in the others. Channels are half-whitened: scaled by the
    square root of their standard deviation, so that strong ones still weigh more, and then to unit power over all.

    Args:
        vae: Changed in place.
        clips: `(N, 3, T, H, W)` in [-1, 1].
    """
    z_dim, ft = vae.config.z_dim, vae.config.scale_factor_temporal
    image, video = (p.flatten(0, 3) for p in vae.patches(clips))
    image_mean, video_mean = image.mean(0), video.mean(0)
    image_basis, video_basis = _principal(image - image_mean, z_dim), _principal(video - video_mean, z_dim)
    still = (image - image_mean).repeat(1, ft) @ video_basis.T
    u, _, vh = torch.linalg.svd(still.T @ ((image - image_mean) @ image_basis.T))
    image_basis = (u @ vh) @ image_basis
    vae.image_basis.copy_(image_basis)
    vae.image_mean.copy_(image_mean)
    vae.video_basis.copy_(video_basis)
    vae.video_mean.copy_(video_mean)
    z = vae.encode(clips).latent_dist.mode().transpose(0, 1).flatten(1).T
    std = z.std(0).sqrt()
    std = std * (z / std).pow(2).mean().sqrt()
    vae.register_to_config(latents_mean=[0.0] * z_dim, latents_std=[round(s, 6) for s in std.tolist()])


def _principal(x: Tensor, count: int) -> Tensor:
    """The first principal components of centred rows, `(count, D)`, orthonormal."""
    _, vectors = torch.linalg.eigh((x.T @ x).double() / len(x))
    return vectors.flip(1)[:, :count].T.float()


def fit_decoder(
    vae: TinyWanVAE,
    frames: NDArray[np.uint8],
    *,
    steps: int,
    regenerated: Tensor | None = None,
    share: float = 0.7,
    batch_size: int = 8,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train the decoder's network on mean squared error; the encoder stays as it is.

    Args:
        vae: Changed in place.
        frames: `(N, T, 3, H, W)` bytes.
        steps: How many; the learning rate falls to zero over them.
        regenerated: Latents of the same clips as a model generates them, `(N, C, F, h, w)`, normalised (see
            `regenerate`). The decoder learns to make the clip out of these too.
        share: Share of clips that are decoded from `regenerated`, in [0, 1].
        batch_size: Clips a step.
        learning_rate: Of AdamW at its highest.
        seed: Of the order of the clips.
        on_step: Called with the step's number and its loss.
    """
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_(not name.endswith(ENCODER))
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    generator = np.random.default_rng(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
        index = np.sort(generator.choice(len(frames), batch_size, replace=False))
        x = to_model_range(frames[index])
        z = vae.encode(x).latent_dist.mode()
        if regenerated is not None:
            chosen = torch.from_numpy(generator.random(batch_size) < share).view(-1, 1, 1, 1, 1)
            z = torch.where(chosen, regenerated[index].float() * latent_scale(vae), z)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BFLOAT16):
            y = vae.synthesise(z)
        loss = (y.float() - x).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, loss.item())


def latent_scale(vae: TinyWanVAE) -> Tensor:
    """Scale of the latent channels, `(1, C, 1, 1, 1)`, by which a pipeline divides."""
    return torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)


@torch.no_grad()
def regenerate(
    pipeline: WanPipeline,
    latents: Tensor,
    captions: Sequence[str],
    *,
    noise_levels: tuple[float, float] = (0.1, 0.8),
    batch_size: int = 50,
    seed: int = 0,
) -> Tensor:
    """Latents of clips as the model generates them: noised up to a level and denoised again.

    Scene and camera path stay, and details are drawn anew with the model's errors, so that a decoder can learn to bear
    those.

    Args:
        pipeline: Model that generates.
        latents: `(N, C, F, h, w)`, normalised.
        captions: One per clip.
        noise_levels: Range of the noise levels in (0, 1), of which every batch has one; the solver takes a step for
            every eighth.
        batch_size: Clips denoised together.
        seed: Of noise and noise levels.

    Returns:
        Like `latents`, in float16.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for begin in range(0, len(latents), batch_size):
        part = slice(begin, begin + batch_size)
        z = latents[part].float()
        level = float(torch.empty(()).uniform_(*noise_levels, generator=generator))
        sigmas = torch.linspace(level, 0, max(2, round(8 * level)) + 1)
        text = pipeline.encode_prompt(list(captions[part]), do_classifier_free_guidance=False)[0]
        x = (1 - level) * z + level * torch.randn(z.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BFLOAT16):
            for sigma, following in pairwise(sigmas):
                timestep = (1000 * sigma).expand(len(x))
                velocity = pipeline.transformer(x, timestep, text, return_dict=False)[0]
                x = x + (following - sigma) * velocity.float()
        parts.append(x.half())
    return torch.cat(parts)


@torch.no_grad()
def block_contrast(clips: Tensor, side: int) -> float:
    """How much pixels differ across patch borders, over how much they do within patches: 1 if borders do not show.

    Args:
        clips: `(..., H, W)`.
        side: Side of a patch.
    """
    ratios = []
    for x in (clips, clips.transpose(-1, -2)):
        steps = x.diff(dim=-1).abs().flatten(0, -2).mean(0)
        border = torch.arange(1, len(steps) + 1) % side == 0
        ratios.append(float(steps[border].mean() / steps[~border].mean()))
    return math.prod(ratios) ** 0.5


def psnr(decoded: Tensor, clips: Tensor) -> float:
    """PSNR in dB, of the mean squared error over all pixels, of clips in [-1, 1]."""
    return -10 * math.log10(float(((decoded - clips) / 2).pow(2).mean()))


@torch.no_grad()
def reconstruction_psnr(vae: TinyWanVAE, frames: NDArray[np.uint8], batch_size: int = 16) -> float:
    """`psnr` of clips `(N, T, 3, H, W)`, bytes, that go there and back."""
    clips = to_model_range(frames)
    return psnr(torch.cat([vae(part).sample for part in clips.split(batch_size)]), clips)
