"""Rendered clips on disk: made in order, each from its own seed, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.tiny_world.flawed_clips import FlawedShares, flawed_clip
from worldr1_backbones.tiny.captions import Caption
from worldr1_backbones.tiny.data import make_clip, render_clip
from worldr1_backbones.tiny.scenes import IMAGE_SIZE, NUM_FRAMES

CLIP_SHAPE = (NUM_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)


def render_dataset(
    folder: Path,
    count: int,
    seed: int = 0,
    *,
    held_out: bool = False,
    flawed: FlawedShares | None = None,
    on_clip: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.uint8], list[str]]:
    """Render clips into `folder`, or go on where an earlier call stopped.

    Args:
        folder: Receives `frames.u8` (count x T x 3 x H x W bytes) and `captions.jsonl`.
        count: How many clips.
        seed: Which data set.
        held_out: Draw from the held-out captions.
        flawed: Shares of incoherent clips and of wrong camera words; none by default.
        on_clip: Called with the number of clips that are ready, after each.

    Returns:
        The frames, memory-mapped, `(count, T, 3, H, W)` uint8, and the captions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "captions.jsonl"
    captions = _read_captions(lines)[:count]
    size = count * int(np.prod(CLIP_SHAPE))
    store = folder / "frames.u8"
    if not store.exists() or store.stat().st_size < size:
        with store.open("ab") as file:
            file.truncate(size)
    frames = np.memmap(store, dtype=np.uint8, mode="r+", shape=(count, *CLIP_SHAPE))
    with lines.open("a") as file:
        for index in range(len(captions), count):
            video, caption = _clip(index, seed, held_out, flawed)
            frames[index] = (video * 255).round().to(torch.uint8).numpy()
            captions.append(caption.text)
            file.write(json.dumps(caption.text) + "\n")
            if index % 64 == 63:
                file.flush()
            if on_clip is not None:
                on_clip(index + 1)
    return frames, captions


def _clip(index: int, seed: int, held_out: bool, flawed: FlawedShares | None) -> tuple[Tensor, Caption]:
    if flawed is not None:
        return flawed_clip(index, seed, flawed, held_out=held_out)
    clip = make_clip(index, seed, held_out=held_out)
    return render_clip(clip), clip.caption


def _read_captions(path: Path) -> list[str]:
    """The captions of the clips that are complete; a last line without its end is cut off."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [str(json.loads(line)) for line in whole.splitlines()]
