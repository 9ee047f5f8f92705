"""Prompts in the tiny world's language: `uv run python -m tools.tiny_world.prompts --out DIR` writes three splits.

Test prompts describe scenes that neither the tiny model nor a policy was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import torch

from worldr1_backbones.tiny.captions import held_out_captions, sample_caption
from worldr1_core.files import atomic_write_text

NUM_TRAIN, NUM_DYNAMIC, NUM_TEST = 2000, 500, 180
TEST_SEED = 1
"""Other scenes than those of the model's own caption following (seed 0)."""


def tiny_prompts(seed: int = 0) -> dict[str, list[str]]:
    """Split (`train`, `dynamic`, `test`) -> prompts without repetition; a pure function of the seed.

    Training prompts command one move, two, a composite or none; test prompts command the nine single moves in turn.
    """
    return {
        "train": _distinct(_captions(seed, dynamic=0.0), NUM_TRAIN),
        "dynamic": _distinct(_captions(seed + 1, dynamic=1.0), NUM_DYNAMIC),
        "test": _distinct((caption.text for caption in held_out_captions(2 * NUM_TEST, TEST_SEED)), NUM_TEST),
    }


def _captions(seed: int, dynamic: float) -> Iterator[str]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield sample_caption(generator, dynamic=dynamic).text


def _distinct(captions: Iterator[str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(next(captions))
    return list(found)


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the three files.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the training prompts.")
def main(out: Path, seed: int) -> None:
    """Write train.txt, dynamic.txt and test.txt, one prompt per line."""
    for name, prompts in tiny_prompts(seed).items():
        atomic_write_text(out / f"{name}.txt", "\n".join(prompts) + "\n")


if __name__ == "__main__":
    main()
