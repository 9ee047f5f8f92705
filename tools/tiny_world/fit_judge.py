"""Make the judge of `tiny-text-alignment` from nothing: render examples, fit the network, measure, save.

    uv run python -m tools.tiny_world.fit_judge --minutes 10 --out tiny-judge

About ten minutes on one core. Nothing is generated: the network learns on renders, and what it must bear from a
generative model is imitated by the VAE with noise in its latents, by blur, grain and shifted colours.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import structlog
import torch
from torch import Tensor
from torch.nn import functional

from tools.tiny_world.judge_evaluation import evaluate_judge, through_vae
from tools.tiny_world.muon import FAST_BFLOAT16
from tools.tiny_world.object_losses import draw_example
from worldr1_backbones.tiny import CHECKPOINT, TinyWanVAE
from worldr1_backbones.tiny.captions import COLOURS, SHAPES, TEXTURES, Caption
from worldr1_backbones.tiny.data import clip_of
from worldr1_backbones.tiny.raycaster import render_depth
from worldr1_backbones.tiny.scene_reader import GRID, SceneReader, save_reader
from worldr1_backbones.tiny.text_alignment import expected_objects
from worldr1_core.errors import UserError

log = structlog.get_logger()

LEARNING_RATE = 3e-3
LATENT_NOISE = 0.8
"""Most noise in the latents, of their standard deviation; generated clips are as grainy as renders with 0.5."""
_FILL_SCENES = 24
_LEAST_CELLS = 0.5
"""Cells that an object must cover in a frame for its shape to be told."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Training data.

    Attributes:
        frames: `(N, T, 3, 64, 64)` bytes.
        cover: `(N, 2, T, G, G)` share of each cell that each object covers; zeros for a second that there is not.
        colours: `(N, 2)` index of each object's colour.
        shapes: `(N, 2)` index of its shape.
        rooms: `(N,)` index of the room's colour.
        textures: `(N,)` index of the walls' texture.
    """

    frames: Tensor
    cover: Tensor
    colours: Tensor
    shapes: Tensor
    rooms: Tensor
    textures: Tensor


def render_examples(count: int, seed: int = 0, seconds: float = math.inf) -> Examples:
    """Render training examples; equal arguments give equal examples.

    Args:
        count: How many.
        seed: Which data set.
        seconds: How long it may take.

    Raises:
        UserError: It takes longer.
    """
    begin = time.monotonic()
    drawn, cover = [], []
    captions: list[Caption] = []
    for index in range(count):
        if time.monotonic() - begin > seconds:
            raise UserError(
                f"Only {index} of {count} examples could be rendered in time. Allow more minutes, or fewer examples."
            )
        example = draw_example(index, seed)
        drawn.append((example.frames.clamp(0, 1) * 255).round().to(torch.uint8))
        cells = functional.adaptive_avg_pool2d(example.masks, GRID)
        cover.append(functional.pad(cells, (0, 0, 0, 0, 0, 0, 0, 2 - len(cells))))
        captions.append(example.caption)
        if (index + 1) % 1000 == 0:
            log.info("rendering", examples=index + 1)
    pairs = [(caption.objects * 2)[:2] for caption in captions]
    return Examples(
        torch.stack(drawn),
        torch.stack(cover),
        torch.tensor([[COLOURS.index(colour) for colour, _ in pair] for pair in pairs]),
        torch.tensor([[SHAPES.index(shape) for _, shape in pair] for pair in pairs]),
        torch.tensor([COLOURS.index(caption.room) for caption in captions]),
        torch.tensor([TEXTURES.index(caption.texture) for caption in captions]),
    )


def measure_fill(seed: int = 0) -> Tensor:
    """Share of the square around a solid that each shape covers in the first frame, `(5,)`: a mean over renders."""
    square = float(expected_objects((), 1, None, 2).area[0, 0])
    fill = []
    for shape in SHAPES:
        caption = Caption((), (("red", shape),), "blue", "plain")
        areas = []
        for index in range(_FILL_SCENES):
            clip = clip_of(caption, seed + index)
            first = type(clip.path)(clip.path.c2w[:1], clip.path.intrinsics, clip.path.image_size)
            empty = replace(clip.scene, solids=())
            covered = render_depth(clip.scene, first) < render_depth(empty, first) - 1e-3
            areas.append(float(covered.float().mean()))
        fill.append(sum(areas) / len(areas) / square)
    return torch.tensor(fill)


def degrade(frames: Tensor, vae: TinyWanVAE, generator: torch.Generator) -> Tensor:
    """What a generative model does to frames: a VAE, noise in the latents, blur, grain, other colours.

    Args:
        frames: `(B, T, 3, 64, 64)` in [0, 1], T = 4k + 1.
        vae: Which of them go through it, and how noisy, is drawn.
        generator: Source of randomness.
    """
    frames = frames.clone()
    for chosen, change in (
        (0.6, lambda x: through_vae(vae, x, LATENT_NOISE * _rand(generator, len(x)), generator)),
        (0.25, lambda x: functional.avg_pool2d(x.flatten(0, 1), 3, 1, 1, count_include_pad=False).view_as(x)),
        (0.35, lambda x: x + 0.1 * _rand(generator, len(x)) * torch.randn(x.shape, generator=generator)),
        (0.6, lambda x: (x - 0.5) * (0.8 + 0.35 * _rand(generator, len(x))) + 0.5),
        (0.6, lambda x: x + 0.12 * (torch.rand(len(x), 1, 3, 1, 1, generator=generator) - 0.5)),
    ):
        which = torch.rand(len(frames), generator=generator) < chosen
        if which.any():
            frames[which] = change(frames[which]).clamp(0, 1)
    return frames


def reading_loss(reader: SceneReader, frames: Tensor, batch: Examples) -> Tensor:
    """Cross-entropies: of every cell's colour, of the shapes where objects are, of the room's colour and texture.

    Args:
        reader: The network.
        frames: `(B, T, 3, 64, 64)` in [0, 1], degraded or not.
        batch: Their truth.
    """
    num_frames = frames.shape[1]
    kinds, shape, room, texture = (part.float() for part in reader.logits(frames.flatten(0, 1)))
    cover = batch.cover.permute(0, 2, 1, 3, 4).flatten(0, 1)  # (B T, 2, G, G)
    each = [
        part.repeat_interleave(num_frames, 0) for part in (batch.colours, batch.shapes, batch.rooms, batch.textures)
    ]
    colours, shapes, rooms, textures = each
    wanted = torch.einsum("nsgh,nsc->ncgh", cover, functional.one_hot(colours, len(COLOURS)).float()).clamp(0, 1)
    wanted = torch.cat([(1 - wanted.sum(1, keepdim=True)).clamp(min=0), wanted], dim=1)
    loss = -3 * (wanted * kinds.log_softmax(1)).sum(1).mean()
    mass = cover.sum((2, 3))
    pooled = torch.einsum("nsgh,nkgh->nsk", cover, shape) / mass[..., None].clamp(min=1e-3)
    seen = mass > _LEAST_CELLS
    if seen.any():
        loss = loss + functional.cross_entropy(pooled[seen], shapes[seen])
    return loss + functional.cross_entropy(room, rooms) + functional.cross_entropy(texture, textures)


def fit(reader: SceneReader, examples: Examples, vae: TinyWanVAE, seconds: float, *, batch_size: int = 32,
        seed: int = 0, most_steps: int | None = None) -> SceneReader:  # fmt: skip
    """Train until the time is spent; the step size falls to zero over it.

    Args:
        reader: Changed in place.
        examples: Training data.
        vae: For `degrade`.
        seconds: How long.
        batch_size: Examples a step.
        seed: Of their order and degradation.
        most_steps: Stop earlier; the step size then falls over these.

    Returns:
        A network with the average of the weights.
    """
    optimizer = torch.optim.AdamW(reader.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    average = copy.deepcopy(reader)
    generator = torch.Generator().manual_seed(seed)
    begin = last = time.monotonic()
    step, losses = 0, []
    reader.train()
    while True:
        now = time.monotonic()
        progress = (now - begin) / seconds if most_steps is None else step / most_steps
        if progress >= 1 or now - begin >= seconds:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * (1 - progress)
        index = torch.randint(len(examples.frames), (batch_size,), generator=generator)
        batch = Examples(*(getattr(examples, name)[index] for name in Examples.__dataclass_fields__))
        frames = degrade(batch.frames.float() / 255, vae, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BFLOAT16):
            loss = reading_loss(reader, frames, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        _average(average, reader, min(0.995, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if now - last > 30:
            log.info("fitting", step=step, seconds=round(now - begin), loss=round(sum(losses) / len(losses), 4))
            last, losses = now, []
    return average.eval()


@torch.no_grad()
def _average(average: SceneReader, reader: SceneReader, decay: float) -> None:
    for mine, theirs in zip(average.state_dict().values(), reader.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def _rand(generator: torch.Generator, count: int) -> Tensor:
    return torch.rand(count, 1, 1, 1, 1, generator=generator)


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.05), default=10.0, show_default=True,
              help="Time to render (at most four fifths) and to train; measuring comes on top.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Receives the weights.")
@click.option("--examples", type=click.IntRange(min=16), default=4000, show_default=True, help="Examples to render.")
@click.option("--width", type=click.IntRange(8, 256), default=64, show_default=True, help="Channels of the network.")
@click.option("--test-clips", type=click.IntRange(min=8), default=200, show_default=True, help="Clips to measure on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(minutes: float, out: Path, examples: int, width: int, test_clips: int, seed: int) -> None:
    """Fit the judge of the tiny world, and measure it on held-out scenes."""
    begin = time.monotonic()
    torch.manual_seed(seed)
    vae: TinyWanVAE = TinyWanVAE.from_pretrained(CHECKPOINT / "vae", torch_dtype=torch.float32).requires_grad_(False)
    budget = 60 * minutes
    try:
        data = render_examples(examples, seed, 0.8 * budget)
    except UserError as error:
        raise click.UsageError(str(error)) from error
    spent = time.monotonic() - begin
    log.info("rendered", examples=examples, seconds=round(spent))
    reader = SceneReader(width)
    reader.fill.copy_(measure_fill(seed))
    fitted = fit(reader, data, vae, budget - spent, seed=seed)
    save_reader(fitted, out)
    figures = evaluate_judge(fitted, vae, test_clips, seed)
    (out / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
