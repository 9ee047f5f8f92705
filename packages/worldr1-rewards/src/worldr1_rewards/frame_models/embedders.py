"""Embeddings of frames by CLIP and DINO, in batches, with transformers' models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.frame_models.frames import SIDE, for_clip, for_dino
from worldr1_rewards.pretrained import find_file, model_from_pretrained

CLIP_B32, CLIP_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"
DINO_B16 = "facebook/dino-vitb16"


@dataclass(frozen=True, slots=True)
class Embedder:
    """An image model as a function of frames.

    Attributes:
        prepare: Frames `(T, 3, H, W)` in [0, 1] to the model's input.
        embed: Input to embeddings `(T, D)`.
        device: Where the model works.
        batch_size: Frames per forward pass.
    """

    prepare: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]
    device: str
    batch_size: int

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        """Return embeddings of length 1, `(T, D)` float32 on the CPU, of frames `(T, 3, H, W)` in [0, 1]."""
        parts = [
            self.embed(self.prepare(chunk.to(self.device, torch.float32))).float().cpu()
            for chunk in frames.split(self.batch_size)
        ]
        return functional.normalize(torch.cat(parts), dim=-1)


def load_clip(source: WeightsSource, *, device: str = "cpu", batch_size: int = 8) -> Embedder:
    """Load CLIP's image tower with its projection.

    Args:
        source: Hub id or folder with transformers' weights of a CLIP model.
        device: Where to run.
        batch_size: Frames per forward pass.

    Raises:
        WeightsError: The weights are missing or do not fit.
    """
    from transformers import CLIPVisionModelWithProjection

    model: Any = model_from_pretrained(CLIPVisionModelWithProjection, source, "CLIP").to(device)
    side = int(model.config.image_size)
    return Embedder(
        lambda frames: for_clip(frames, side),
        lambda pixels: model(pixel_values=pixels).image_embeds,
        device,
        batch_size,
    )


def load_dino(source: WeightsSource, *, device: str = "cpu", batch_size: int = 8) -> Embedder:
    """Load a vision transformer whose embedding is the class token after the last normalisation, such as DINO's.

    Positions are interpolated, because frames are not cut to a square; transformers and DINO's own code round the
    positions slightly differently there.

    Args:
        source: Hub id or folder with transformers' weights of a ViT or DINOv2 model.
        device: Where to run.
        batch_size: Frames per forward pass.

    Raises:
        WeightsError: The weights are missing or do not fit.
    """
    from transformers import AutoModel

    options = {"add_pooling_layer": False} if _is_vit(source) else {}
    model: Any = model_from_pretrained(AutoModel, source, "DINO", **options).to(device)
    known = {"interpolate_pos_encoding": True} if _is_vit(source) else {}
    side = int(model.config.image_size) if options else SIDE  # DINOv2's own size is that of its last training
    return Embedder(
        lambda frames: for_dino(frames, side),
        lambda pixels: model(pixel_values=pixels, **known).last_hidden_state[:, 0],
        device,
        batch_size,
    )


def _is_vit(source: WeightsSource) -> bool:
    """Return True for the architecture `vit`; DINOv2 always interpolates and has no pooling layer to leave out."""
    config = json.loads(find_file(source, "config.json", "DINO").read_text(encoding="utf-8"))
    return config.get("model_type") == "vit"
