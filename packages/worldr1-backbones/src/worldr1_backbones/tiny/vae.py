"""A video autoencoder behind the Wan VAE's interface: linear patches in, linear patches and a few convolutions out.

The encoder is a fixed linear transform of patches, the first frame alone and then four frames at a time, as in Wan.
The decoder is its transpose, plus a residual that a small convolutional network predicts on the latent grid. The
patches of the residual overlap and are added up, which takes the blocking away. A clip of 9 x 64 x 64 decodes in a few
milliseconds on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

_LOG_VARIANCE = -30.0
"""The encoder is deterministic: its posterior has (almost) no variance."""


class _Block(nn.Module):
    """Residual block: space, then time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))
        self.time = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.space(nn.functional.silu(x)))
        return x + self.time(y)


class TinyWanVAE(ModelMixin, ConfigMixin):
    """The tiny world's VAE, with the interface of `diffusers.AutoencoderKLWan`.

    Args:
        z_dim: Latent channels.
        latents_mean: Mean of each channel over the training data; the pipeline subtracts it.
        latents_std: Scale of each channel; the pipeline divides by it.
        scale_factor_temporal: Frames a latent frame, after the first.
        scale_factor_spatial: Side of a patch, pixels.
        hidden: Width of the decoder's network.
        num_layers: Its residual blocks.
        overlap: Pixels by which a patch of the residual reaches into its neighbours, on every side.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        z_dim: int = 64,
        latents_mean: Sequence[float] = (0.0,) * 64,
        latents_std: Sequence[float] = (1.0,) * 64,
        scale_factor_temporal: int = 4,
        scale_factor_spatial: int = 8,
        hidden: int = 96,
        num_layers: int = 3,
        overlap: int = 4,
    ) -> None:
        super().__init__()
        image = 3 * scale_factor_spatial**2
        video = image * scale_factor_temporal
        self.image_basis = nn.Parameter(torch.eye(z_dim, image))
        self.image_mean = nn.Parameter(torch.zeros(image))
        self.video_basis = nn.Parameter(torch.eye(z_dim, video))
        self.video_mean = nn.Parameter(torch.zeros(video))
        self.stem = nn.Conv3d(z_dim, hidden, (1, 3, 3), padding=(0, 1, 1))
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(num_layers))
        self.image_head = self._head(1)
        self.video_head = self._head(scale_factor_temporal)

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """Encode clips.

        Args:
            x: `(B, 3, 1 + ft * k, H, W)` in [-1, 1]; `H` and `W` multiples of `scale_factor_spatial`.
            return_dict: As in diffusers.

        Returns:
            `AutoencoderKLOutput`, or a tuple, with the posterior of latents `(B, z_dim, 1 + k, h, w)`, not normalised.
        """
        image, video = self.patches(x)
        image = (image - self.image_mean) @ self.image_basis.T * self._gain
        z = torch.cat([image, (video - self.video_mean) @ self.video_basis.T], dim=1).permute(0, 4, 1, 2, 3)
        posterior = DiagonalGaussianDistribution(torch.cat([z, torch.full_like(z, _LOG_VARIANCE)], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True) -> Any:
        """Decode latents.

        Args:
            z: `(B, z_dim, 1 + k, h, w)`, not normalised.
            return_dict: As in diffusers.

        Returns:
            `DecoderOutput`, or a tuple, with clips `(B, 3, 1 + ft * k, H, W)` in [-1, 1].
        """
        sample = self.synthesise(z)
        clamped = sample.clamp(-1, 1)
        # A gradient passes the clamp, so that saturated pixels can come back.
        sample = sample + (clamped - sample).detach() if sample.requires_grad else clamped
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def forward(self, sample: Tensor, return_dict: bool = True) -> Any:
        """Encode and decode."""
        return self.decode(self.encode(sample, return_dict=False)[0].mode(), return_dict=return_dict)

    def synthesise(self, z: Tensor) -> Tensor:
        """`decode` without the clamp."""
        std = torch.tensor(self.config.latents_std, device=z.device, dtype=z.dtype).view(1, -1, 1, 1, 1)
        mean = torch.tensor(self.config.latents_mean, device=z.device, dtype=z.dtype).view(1, -1, 1, 1, 1)
        h = self.stem((z - mean) / std)
        for block in self.blocks:
            h = block(h)
        h = nn.functional.silu(h)
        ft = self.config.scale_factor_temporal
        image, video = z.permute(0, 2, 3, 4, 1).split([1, z.shape[2] - 1], dim=1)
        image = self._unpatch((image / self._gain) @ self.image_basis + self.image_mean, 1)
        video = self._unpatch(video @ self.video_basis + self.video_mean, ft)
        image = image + self._residual(self.image_head, h[:, :, :1])
        video = video + self._residual(self.video_head, h[:, :, 1:])
        return torch.cat([image, video], dim=2)

    def patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches of the first frame `(B, 1, h, w, D)` and of the others `(B, k, h, w, ft * D)`, D = 3 * side²."""
        ft = self.config.scale_factor_temporal
        if x.ndim != 5 or x.shape[1] != 3 or (x.shape[2] - 1) % ft:
            raise ValueError(f"Clips must be (B, 3, {ft}k + 1, H, W), received shape {tuple(x.shape)!r}.")
        return self._patch(x[:, :, :1], 1), self._patch(x[:, :, 1:], ft)

    def enable_slicing(self) -> None:
        """Accepted and ignored: a clip takes little memory as it is."""

    def disable_slicing(self) -> None:
        """Accepted and ignored."""

    def enable_tiling(self, *args: Any, **kwargs: Any) -> None:
        """Accepted and ignored: frames are small."""

    def disable_tiling(self) -> None:
        """Accepted and ignored."""

    @property
    def _gain(self) -> float:
        """A patch of four equal frames has twice the norm of one; this gives the first latent frame the same scale."""
        return math.sqrt(self.config.scale_factor_temporal)

    def _head(self, ft: int) -> nn.ConvTranspose2d:
        """Layer that makes overlapping patches of `ft` frames out of the network's features; zero at first."""
        side, overlap = self.config.scale_factor_spatial, self.config.overlap
        head = nn.ConvTranspose2d(self.config.hidden, 3 * ft, side + 2 * overlap, stride=side, padding=overlap)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        return head

    @staticmethod
    def _residual(head: nn.ConvTranspose2d, h: Tensor) -> Tensor:
        """Residual `(B, 3, ft * k, H, W)` of features `(B, hidden, k, h, w)`."""
        y = head(h.transpose(1, 2).flatten(0, 1))
        return y.reshape(len(h), -1, 3, *y.shape[-2:]).transpose(1, 2)

    def _patch(self, x: Tensor, ft: int) -> Tensor:
        side = self.config.scale_factor_spatial
        b, c, f, h, w = x.shape
        x = x.reshape(b, c, f // ft, ft, h // side, side, w // side, side)
        return x.permute(0, 2, 4, 6, 3, 1, 5, 7).reshape(b, f // ft, h // side, w // side, ft * c * side**2)

    def _unpatch(self, y: Tensor, ft: int) -> Tensor:
        side = self.config.scale_factor_spatial
        b, f, h, w, _ = y.shape
        y = y.reshape(b, f, h, w, ft, 3, side, side)
        return y.permute(0, 5, 1, 4, 2, 6, 3, 7).reshape(b, 3, f * ft, h * side, w * side)


# Pipelines record a component under its class's module. Naming the package, which is light to import, lets
# `WanPipeline.from_pretrained` find the class wherever `worldr1_backbones.tiny` has been imported.
TinyWanVAE.__module__ = "worldr1_backbones.tiny"
