"""Measure a checkpoint of the tiny world: does it go where captions send the camera, and how good do clips look?

    uv run python -m tools.tiny_world.evaluate [CHECKPOINT] [--captions 200] [--guidance 3] [--sheet sheet.png]

prints one JSON line. Everything is seeded: the same call on the same machine prints the same figures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from diffusers import WanPipeline
from torch import Tensor

from tools.tiny_world import fit_vae
from tools.tiny_world.model import MAX_TEXT_LENGTH, load_pipeline
from tools.tiny_world.move_classifier import match_moves
from worldr1_backbones.tiny import CHECKPOINT
from worldr1_backbones.tiny.captions import Caption, held_out_captions
from worldr1_backbones.tiny.data import clip_of, render_clip
from worldr1_backbones.tiny.scenes import IMAGE_SIZE, NUM_FRAMES
from worldr1_core.camera.vocabulary import SINGLE_MOVES
from worldr1_core.frame_grid import frame_grid

GUIDANCE_SCALE = 2.0
"""Guidance at which the shipped checkpoint follows captions best."""
NUM_INFERENCE_STEPS = 20


def generate(
    pipeline: WanPipeline,
    prompts: Sequence[str],
    *,
    guidance_scale: float = GUIDANCE_SCALE,
    num_inference_steps: int = NUM_INFERENCE_STEPS,
    seed: int = 0,
    batch_size: int = 25,
    max_sequence_length: int = MAX_TEXT_LENGTH,
) -> Tensor:
    """Clips for prompts, each from a seed of its own (`seed` plus its number).

    Returns:
        `(N, T, 3, H, W)` in [0, 1].
    """
    clips = []
    for begin in range(0, len(prompts), batch_size):
        batch = list(prompts[begin : begin + batch_size])
        generators = [torch.Generator().manual_seed(seed + begin + i) for i in range(len(batch))]
        clips.append(
            pipeline(
                batch,
                height=IMAGE_SIZE,
                width=IMAGE_SIZE,
                num_frames=NUM_FRAMES,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                generator=generators,
                max_sequence_length=max_sequence_length,
                output_type="pt",
            ).frames
        )
    return torch.cat(clips)


def truths(captions: Sequence[Caption], seed: int = 0) -> Tensor:
    """A rendered clip for each caption, `(N, T, 3, H, W)` in [0, 1]."""
    return torch.stack([render_clip(clip_of(caption, seed + i)) for i, caption in enumerate(captions)])


def following(clips: Tensor, captions: Sequence[Caption]) -> dict[str, Any]:
    """Share of clips whose commanded single move is the best match of the nine: overall, and per move."""
    commanded = torch.tensor([SINGLE_MOVES.index(caption.moves[0]) for caption in captions])
    right = (match_moves(clips).best == commanded).double()
    per_move = {
        move.value: round(right[commanded == i].mean().item(), 3)
        for i, move in enumerate(SINGLE_MOVES)
        if (commanded == i).any()
    }
    return {"camera_accuracy": round(right.mean().item(), 4), "per_move": per_move}


def sharpness(clips: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels, along both axes added."""
    return (clips.diff(dim=-1).abs().mean() + clips.diff(dim=-2).abs().mean()).item()


def contrast(clips: Tensor) -> float:
    """Standard deviation of the pixels of a frame, averaged over frames."""
    return clips.mean(2).flatten(2).std(-1).mean().item()


def evaluate_checkpoint(
    checkpoint: str | Path = CHECKPOINT,
    *,
    adapter: str | Path | None = None,
    count: int = 200,
    guidance_scale: float = GUIDANCE_SCALE,
    num_inference_steps: int = NUM_INFERENCE_STEPS,
    seed: int = 0,
    max_sequence_length: int = MAX_TEXT_LENGTH,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Every figure of the model card.

    Args:
        checkpoint: Folder of a pipeline.
        adapter: Folder of an adapter that is put on it.
        count: Held-out captions, the nine moves in turn.
        guidance_scale: Of classifier-free guidance.
        num_inference_steps: Of the Euler scheduler.
        seed: Of captions, noise and true scenes.
        max_sequence_length: Tokens that captions are padded to.
        sheet: Where to write a contact sheet: generated and rendered clips of the nine moves in turn.
    """
    pipeline = load_pipeline(checkpoint)
    if adapter is not None:
        pipeline.load_lora_weights(str(adapter), local_files_only=True)
    captions = held_out_captions(count, seed)
    start = time.monotonic()
    generated = generate(
        pipeline,
        [caption.text for caption in captions],
        guidance_scale=guidance_scale,
        num_inference_steps=num_inference_steps,
        seed=seed,
        max_sequence_length=max_sequence_length,
    )
    seconds = time.monotonic() - start
    true = truths(captions, seed)
    if sheet is not None:
        pairs = torch.stack([generated, true], dim=1)[: len(SINGLE_MOVES)].flatten(0, 1)
        frame_grid(list(pairs), side=2 * IMAGE_SIZE, gap=2).save(sheet)
    bytes_ = (true[:128] * 255).round().to(torch.uint8).numpy()
    return {
        **following(generated, captions),
        "captions": count,
        "guidance_scale": guidance_scale,
        "num_inference_steps": num_inference_steps,
        "camera_accuracy_of_renders": following(true, captions)["camera_accuracy"],
        "vae_psnr": round(fit_vae.reconstruction_psnr(pipeline.vae, np.ascontiguousarray(bytes_)), 2),
        "sharpness": round(sharpness(generated), 4),
        "sharpness_of_renders": round(sharpness(true), 4),
        "contrast": round(contrast(generated), 4),
        "contrast_of_renders": round(contrast(true), 4),
        "seconds_per_clip": round(seconds / count, 3),
    }


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path), default=CHECKPOINT)
@click.option("--adapter", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of an adapter.")
@click.option("--captions", "count", type=click.IntRange(min=9), default=200, show_default=True)
@click.option("--guidance", type=click.FloatRange(min=0), default=GUIDANCE_SCALE, show_default=True)
@click.option("--steps", type=click.IntRange(1, 1000), default=NUM_INFERENCE_STEPS, show_default=True)
@click.option("--text-length", type=click.IntRange(MAX_TEXT_LENGTH, 512), default=MAX_TEXT_LENGTH, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Write a contact sheet PNG here.")
def main(
    checkpoint: Path,
    adapter: Path | None,
    count: int,
    guidance: float,
    steps: int,
    text_length: int,
    seed: int,
    sheet: Path | None,
) -> None:
    """Measure a checkpoint and print one JSON line."""
    figures = evaluate_checkpoint(
        checkpoint,
        adapter=adapter,
        count=count,
        guidance_scale=guidance,
        num_inference_steps=steps,
        seed=seed,
        max_sequence_length=text_length,
        sheet=sheet,
    )
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
