"""Tiny checkpoints on disk, written once a session, and backbones on them."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from backbones.tiny_checkpoints import make_cogvideox, make_wan
from worldr1_backbones.cogvideox import CogVideoXBackbone
from worldr1_backbones.wan import WanBackbone
from worldr1_core.backbone import AdapterSpec
from worldr1_core.seeding import generator

KINDS = {
    "wan-2.1": (WanBackbone, functools.partial(make_wan, "2.1"), 32),
    "wan-2.2-5B": (WanBackbone, functools.partial(make_wan, "2.2-5B"), 64),
    "wan-2.2-A14B": (WanBackbone, functools.partial(make_wan, "2.2-A14B"), 32),
    "cogvideox-1.5": (CogVideoXBackbone, functools.partial(make_cogvideox, "1.5"), 64),
    "cogvideox-1.0": (CogVideoXBackbone, functools.partial(make_cogvideox, "1.0"), 64),
}
"""Kind -> backbone class, maker of the pipeline, side of the video."""

SPEC = AdapterSpec(rank=4, alpha=16.0)
PROMPTS = ["Camera push in. A red ball.", "Camera pan left. A bright room."]


class Checkpoints:
    """Folders by kind, and backbones that load them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, kind: str) -> Path:
        folder = self._root / kind
        if not folder.exists():
            KINDS[kind][1]().save_pretrained(folder)
        return folder

    def options(self, kind: str) -> dict:
        side = KINDS[kind][2]
        return {
            "path": str(self.folder(kind)),
            "height": side,
            "width": side,
            "num_frames": 9,
            "max_sequence_length": 16,
        }

    def backbone(self, kind: str, **options):
        return KINDS[kind][0](**{**self.options(kind), **options})

    def pipeline(self, kind: str, **options):
        """The plain diffusers pipeline, as a user of diffusers loads it."""
        import diffusers

        name = KINDS[kind][0].pipeline_class
        pipeline = getattr(diffusers, name).from_pretrained(self.folder(kind), **options)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def wan(checkpoints):
    """A loaded Wan2.1 that no test changes."""
    return checkpoints.backbone("wan-2.1")


def noise(backbone, count: int = 2, seed: int = 0) -> torch.Tensor:
    """Initial latents `(count, C, T, H, W)`."""
    return torch.stack([torch.randn(backbone.geometry.shape, generator=generator(seed, i)) for i in range(count)])


def steer_adapter(backbone, scale: float = 0.1) -> None:
    """Give every trainable parameter a value that has an effect."""
    with torch.no_grad():
        for name, parameter in backbone.trainable_parameters():
            drawn = torch.randn(parameter.shape, generator=generator(0, name))
            parameter.add_(scale * drawn)


def latents_of(backbone) -> torch.Tensor:
    """What three steps make of the same noise and prompts."""
    return backbone.sample(backbone.encode(PROMPTS), noise(backbone), num_inference_steps=3).latents


def plain_latents(pipeline, backbone) -> torch.Tensor:
    """The same from a diffusers pipeline, in the backbone's layout."""
    pipeline.scheduler = backbone.base_scheduler
    made = pipeline(
        **backbone.encode(PROMPTS).tensors,
        **backbone.call_options(),
        latents=backbone.to_pipeline(noise(backbone)),
        num_inference_steps=3,
        output_type="latent",
        return_dict=False,
    )[0]
    return backbone.from_pipeline(made)


@pytest.fixture(scope="module")
def trained(checkpoints, tmp_path_factory):
    """Kind -> a backbone whose adapter has an effect, and the folder in which it was saved."""
    made = {}

    def get(kind):
        if kind not in made:
            backbone = checkpoints.backbone(kind)
            backbone.add_adapter(SPEC)
            steer_adapter(backbone)
            folder = tmp_path_factory.mktemp("adapters") / kind
            backbone.save_adapter(folder)
            made[kind] = backbone, folder
        return made[kind]

    return get
