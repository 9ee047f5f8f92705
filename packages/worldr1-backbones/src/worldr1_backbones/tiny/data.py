"""Clips of the tiny world: a caption, a scene that shows it and the camera's path, each drawn from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_backbones.tiny.captions import Caption, sample_caption
from worldr1_backbones.tiny.raycaster import render
from worldr1_backbones.tiny.scenes import Scene, sample_scene, walked_trajectory
from worldr1_core.camera.trajectory import CameraTrajectory

_SEED_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True)
class TinyClip:
    """A clip's caption and everything that was rendered from it."""

    caption: Caption
    scene: Scene
    path: CameraTrajectory


def clip_generator(index: int, seed: int, *, held_out: bool) -> torch.Generator:
    """Random numbers of clip number `index` of the data set `seed`."""
    return torch.Generator().manual_seed(_SEED_STRIDE * seed + index + (1 << 40) * held_out)


def make_clip(index: int, seed: int = 0, *, held_out: bool = False) -> TinyClip:
    """Clip number `index` of the endless data set `seed`: equal arguments give equal clips.

    Args:
        index: Which clip.
        seed: Which data set.
        held_out: Draw from the held-out captions.
    """
    generator = clip_generator(index, seed, held_out=held_out)
    caption = sample_caption(generator, held_out=held_out)
    return TinyClip(caption, sample_scene(caption, generator), walked_trajectory(caption, generator))


def clip_of(caption: Caption, seed: int) -> TinyClip:
    """A clip that shows what a caption says; the seed chooses among such scenes."""
    generator = torch.Generator().manual_seed(seed)
    return TinyClip(caption, sample_scene(caption, generator), walked_trajectory(caption, generator))


def render_clip(clip: TinyClip) -> Tensor:
    """Frames `(T, 3, H, W)` in [0, 1]."""
    return render(clip.scene, clip.path)
