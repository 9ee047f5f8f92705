"""Measure the judge on held-out scenes: is each fact read rightly, and are clips with a loss told from intact ones?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tools.tiny_world.fit_vae import latent_scale
from tools.tiny_world.object_losses import LOSSES, lessen, recoloured, reshaped
from worldr1_backbones.tiny import TinyWanVAE
from worldr1_backbones.tiny.captions import COLOURS, SHAPES, TEXTURES, Caption
from worldr1_backbones.tiny.data import TinyClip, make_clip
from worldr1_backbones.tiny.scene_reader import SceneReader
from worldr1_backbones.tiny.text_alignment import alignment, grade_clips
from worldr1_rewards.probes.rank_statistics import auc

TEST_NOISE = 0.5
"""Noise in the latents, of their deviation, that makes renders as grainy as generated clips."""
_TEST_SEED = 90_001


@torch.no_grad()
def through_vae(vae: TinyWanVAE, frames: Tensor, noise: Tensor | float, generator: torch.Generator) -> Tensor:
    """Clips there and back, with noise in between.

    Args:
        vae: The tiny VAE.
        frames: `(B, T, 3, H, W)` in [0, 1].
        noise: Deviation of the noise, of each latent channel's; a number or `(B, 1, 1, 1, 1)`.
        generator: Of the noise.
    """
    z = vae.encode(frames.transpose(1, 2) * 2 - 1).latent_dist.mode()
    z = z + noise * latent_scale(vae) * torch.randn(z.shape, generator=generator)
    decoded: Tensor = vae.decode(z).sample
    return (decoded.transpose(1, 2) + 1) / 2


def evaluate_judge(reader: SceneReader, vae: TinyWanVAE, count: int = 200, seed: int = 0) -> dict[str, Any]:
    """Every figure of the judge's card.

    Args:
        reader: The network.
        vae: Clips are judged as rendered, through it, and through it with noisy latents.
        count: Held-out clips.
        seed: Of the clips.
    """
    generator = torch.Generator().manual_seed(seed)
    clips = [make_clip(index, _TEST_SEED + seed, held_out=True) for index in range(count)]
    captions = [clip.caption for clip in clips]
    variants = {"intact": [lessen(clip, None, generator).frames for clip in clips]}
    variants |= {loss: [lessen(clip, loss, generator).frames for clip in clips] for loss in LOSSES}
    variants["recoloured"] = _rendered([recoloured(clip, generator) for clip in clips], generator)
    variants["reshaped"] = _rendered([reshaped(clip, generator) for clip in clips], generator)
    figures: dict[str, Any] = {"clips": count}
    for name, noise in (("rendered", None), ("vae", 0.0), ("noisy_vae", TEST_NOISE)):
        scores = {}
        for variant, frames in variants.items():
            seen = torch.stack(frames)
            if noise is not None:
                seen = torch.cat([through_vae(vae, part, noise, generator) for part in seen.split(32)])
            if variant == "intact":
                figures[name] = {"accuracy": accuracy(reader, seen, captions)}
            scores[variant] = [alignment(grade.facts) for grade in grade_clips(reader, seen, captions)]
        intact = scores["intact"]
        figures[name]["mean_score"] = {k: round(sum(v) / len(v), 4) for k, v in scores.items()}
        figures[name]["auc"] = {k: round(auc(intact, v), 4) for k, v in scores.items() if v is not intact}
        figures[name]["paired"] = {
            k: round(sum(a > b for a, b in zip(intact, v, strict=True)) / count, 4)
            for k, v in scores.items()
            if v is not intact
        }
    return figures


def accuracy(reader: SceneReader, frames: Tensor, captions: Sequence[Caption]) -> dict[str, float]:
    """Share of facts that are read rightly in intact clips.

    A present colour is right where its fact is at least 0.5; an absent one where less than 1 % of the picture has it.

    Args:
        reader: The network.
        frames: `(B, T, 3, 64, 64)` in [0, 1].
        captions: What they show.
    """
    reading = reader.read(frames)
    right: dict[str, list[bool]] = {
        name: [] for name in ("colour_present", "colour_absent", "shape", "order", "room", "texture")
    }
    for index, (caption, grade) in enumerate(zip(captions, grade_clips(reader, frames, captions), strict=True)):
        facts = grade.facts
        for colour, shape in caption.objects:
            right["colour_present"].append(facts[f"colour: {colour}"] >= 0.5)
            cover = reading.cover[index, :, COLOURS.index(colour)]
            logits = torch.einsum("tgh,tkgh->k", cover, reading.shape[index])
            right["shape"].append(SHAPES[int(logits.argmax())] == shape)
        named = {colour for colour, _ in caption.objects} | {caption.room}
        absent = [colour for colour in COLOURS if colour not in named]
        area = reading.cover[index][:, [COLOURS.index(colour) for colour in absent]].mean((0, 2, 3))
        right["colour_absent"] += (area < 0.01).tolist()
        if "order" in facts:
            right["order"].append(facts["order"] >= 0.5)
        right["room"].append(COLOURS[int(reading.room[index].mean(0).argmax())] == caption.room)
        right["texture"].append(TEXTURES[int(reading.texture[index].mean(0).argmax())] == caption.texture)
    return {name: round(sum(values) / max(1, len(values)), 4) for name, values in right.items()}


def _rendered(clips: Sequence[TinyClip], generator: torch.Generator) -> list[Tensor]:
    return [lessen(clip, None, generator).frames for clip in clips]
