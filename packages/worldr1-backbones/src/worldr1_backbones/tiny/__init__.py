"""The tiny world: a small Wan-native text-to-video model with its own procedural 3D world, shipped with its weights.

`CHECKPOINT` is a folder in the layout of the released Wan checkpoints. `WanPipeline.from_pretrained(CHECKPOINT)` loads
it: its `model_index.json` names this module for the VAE, which is imported when it is first asked for, so that
importing `worldr1_backbones.tiny` stays light.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldr1_backbones.tiny.vae import TinyWanVAE as TinyWanVAE

CHECKPOINT = Path(__file__).parent / "checkpoint"
"""Folder of the shipped pipeline (tokenizer, text encoder, transformer, VAE, scheduler)."""
FLAWED_ADAPTER = Path(__file__).parent / "flawed"
"""Folder of an adapter that makes the shipped model incoherent and disobedient, as large models are."""

__all__ = ["CHECKPOINT", "FLAWED_ADAPTER", "TinyWanVAE"]


def __getattr__(name: str) -> Any:
    if name == "TinyWanVAE":
        from worldr1_backbones.tiny.vae import TinyWanVAE

        return TinyWanVAE
    if name == "ModelMixin":  # diffusers looks for it beside a component's class, to learn how to load that
        from diffusers import ModelMixin

        return ModelMixin
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
