"""Clips of the tiny world in which an object is missing, vanishes, fades, dissolves or is another, with the truth.

The judge learns from them and is measured on them. How much of an object is left is known pixel by pixel: clips with
and without it are rendered along one path and blended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_backbones.tiny.captions import COLOURS, SHAPES, Caption, draw_index
from worldr1_backbones.tiny.data import TinyClip, make_clip
from worldr1_backbones.tiny.raycaster import render, render_depth
from worldr1_backbones.tiny.scenes import IMAGE_SIZE

LOSSES = ("removed", "vanishes", "fades", "dissolves")
"""What can happen to an object: never there, gone from some frame on, a half transparent one, holes in it."""
_WINDOW = 5
"""Frames of a training example: the VAE takes one alone and four together."""


@dataclass(frozen=True, slots=True)
class Example:
    """Frames with their truth.

    Attributes:
        frames: `(T, 3, H, W)` in [0, 1].
        masks: `(S, T, H, W)` in [0, 1]: how much of a pixel each solid covers, after its loss.
        caption: What is shown, but for the loss.
    """

    frames: Tensor
    masks: Tensor
    caption: Caption


def draw_example(index: int, seed: int) -> Example:
    """Training example number `index`: five frames of a clip, in half of them with a loss.

    Args:
        index: Which one.
        seed: Of which data set of `make_clip`.
    """
    clip = make_clip(index, seed)
    generator = torch.Generator().manual_seed(7919 * (index + 1) + seed)
    start = draw_index(generator, clip.path.num_frames - _WINDOW + 1)
    clip = replace(clip, path=replace(clip.path, c2w=clip.path.c2w[start : start + _WINDOW]))
    draw = float(torch.rand((), generator=generator))
    if draw < 0.5:
        return lessen(clip, None, generator)
    return lessen(clip, LOSSES[int((draw - 0.5) * 2 * len(LOSSES))], generator)


def lessen(clip: TinyClip, loss: str | None, generator: torch.Generator, solid: int | None = None) -> Example:
    """Render a clip in which something happens to one object.

    Args:
        clip: What to render.
        loss: One of `LOSSES`, or `None` for the clip as it is.
        generator: Chooses the object, when it vanishes, how far it fades and where it dissolves.
        solid: Which object; drawn if left out.
    """
    scene, path = clip.scene, clip.path
    frames, depth = render(scene, path), render_depth(scene, path)
    rests = [replace(scene, solids=scene.solids[:i] + scene.solids[i + 1 :]) for i in range(len(scene.solids))]
    masks = torch.stack([(depth < render_depth(rest, path) - 1e-3).float() for rest in rests])
    if loss is not None:
        chosen = draw_index(generator, len(rests)) if solid is None else solid
        keep = _kept(loss, path.num_frames, generator)
        frames = keep * frames + (1 - keep) * render(rests[chosen], path)
        masks[chosen] *= keep[:, 0]
    return Example(frames, masks, clip.caption)


def recoloured(clip: TinyClip, generator: torch.Generator) -> TinyClip:
    """The clip with one object in a colour that its caption does not name; the caption stays."""
    used = {colour for colour, _ in clip.caption.objects} | {clip.caption.room}
    return _changed(clip, generator, colour=_choose([c for c in COLOURS if c not in used], generator))


def reshaped(clip: TinyClip, generator: torch.Generator) -> TinyClip:
    """The clip with one object of another shape; the caption stays."""
    chosen = draw_index(generator, len(clip.scene.solids))
    others = [shape for shape in SHAPES if shape != clip.scene.solids[chosen].shape]
    return _changed(clip, generator, chosen, shape=_choose(others, generator))


def _changed(clip: TinyClip, generator: torch.Generator, chosen: int | None = None, **change: str) -> TinyClip:
    solids = list(clip.scene.solids)
    chosen = draw_index(generator, len(solids)) if chosen is None else chosen
    solids[chosen] = replace(solids[chosen], **change)  # type: ignore[arg-type]
    return replace(clip, scene=replace(clip.scene, solids=tuple(solids)))


def _kept(loss: str, num_frames: int, generator: torch.Generator) -> Tensor:
    """How much of the object is left, `(T, 1, H, W)` in [0, 1]."""
    keep = torch.ones(num_frames, 1, IMAGE_SIZE, IMAGE_SIZE)
    if loss == "removed":
        return keep * 0
    if loss == "vanishes":
        keep[1 + draw_index(generator, num_frames - 1) :] = 0
        return keep
    if loss == "fades":
        return keep * (0.15 + 0.55 * float(torch.rand((), generator=generator)))
    if loss == "dissolves":
        noise = torch.randn(1, 1, 16, 16, generator=generator)
        noise = functional.interpolate(noise, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic")
        return keep * (4 * noise + 0.5).clamp(0, 1)
    raise ValueError(f"A loss is one of {LOSSES}, received {loss!r}.")


def _choose(names: list[str], generator: torch.Generator) -> str:
    return names[draw_index(generator, len(names))]
