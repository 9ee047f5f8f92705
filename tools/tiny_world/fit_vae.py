"""Fitting the tiny VAE: principal components in closed form, then the decoder's network by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.tiny_world.muon import FAST_BFLOAT16
from worldr1_backbones.tiny.vae import TinyWanVAE

_PCA_CLIPS = 1500


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
        batch_size: Clips a step.
        learning_rate: Of AdamW at its highest.
        seed: Of the order of the clips.
        on_step: Called with the step's number and its loss.
    """
    trained = [p for name, p in vae.named_parameters() if not name.endswith(("_basis", "_mean"))]
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_(not name.endswith(("_basis", "_mean")))
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    generator = np.random.default_rng(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
        x = to_model_range(frames[np.sort(generator.choice(len(frames), batch_size, replace=False))])
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BFLOAT16):
            y = vae.synthesise(vae.encode(x).latent_dist.mode())
        loss = (y.float() - x).pow(2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, loss.item())


@torch.no_grad()
def reconstruction_psnr(vae: TinyWanVAE, frames: NDArray[np.uint8], batch_size: int = 16) -> float:
    """PSNR in dB, of the mean squared error over all pixels, of clips `(N, T, 3, H, W)` that go there and back."""
    errors = []
    for begin in range(0, len(frames), batch_size):
        x = to_model_range(frames[begin : begin + batch_size])
        errors.append(((vae(x).sample - x) / 2).pow(2).mean((1, 2, 3, 4)))
    return -10 * math.log10(float(torch.cat(errors).mean()))
