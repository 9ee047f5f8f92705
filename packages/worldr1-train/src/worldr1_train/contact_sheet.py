"""Before and after as a picture: test videos of the model as it was, with the manifest's noise alone, and trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worldr1_core.errors import UserError, require
from worldr1_core.figures import check_figure_suffix, save_figure
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.manifest import Manifest
from worldr1_core.registry import Registry
from worldr1_train.standalone_evaluation import make_evaluation_videos

MOST_FRAMES = 9
"""Frames of a video in a row."""
_INCHES = 0.85
_GAP = 2


BEFORE, NOISE_ONLY, AFTER = "before", "noise only", "after"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One test video, made several ways.

    Attributes:
        prompt: Its prompt.
        rows: Name of a row -> frames `(T, 3, H, W)` RGB in [0, 1]: the untrained model from plain noise, the same from
            the manifest's noise where it has a conditioner, and the trained model from the manifest's noise.
    """

    prompt: str
    rows: Mapping[str, Tensor]


def generate_comparisons(
    manifest: Manifest, registry: Registry, base: Path, adapter: Path, count: int
) -> list[Comparison]:
    """Generate test videos, evenly spaced over those of the evaluation, without and with an adapter.

    Args:
        manifest: Names backbone, sampler, noise and prompts.
        registry: Where names are looked up.
        base: Folder that relative prompt files start from.
        adapter: Folder of the trained adapter.
        count: How many, at least 1; fewer where the evaluation has fewer.

    Raises:
        UserError: Something that it takes is missing.
    """
    if count < 1:
        raise UserError(f"A sheet needs at least 1 prompt, received {count}.")
    videos = make_evaluation_videos(manifest, registry, base)
    total = len(videos)
    chosen = torch.linspace(0, total - 1, min(count, total)).round().long().tolist()
    made = {BEFORE: videos.with_noise(GaussianNoise()).generate(chosen)}
    if manifest.noise is not None:
        made[NOISE_ONLY] = videos.generate(chosen)
    videos.pipeline.backbone.load_adapter(adapter)
    made[AFTER] = videos.generate(chosen)
    return [
        Comparison(videos.prompts[index], {name: clips[i].video.frames for name, clips in made.items()})
        for i, index in enumerate(chosen)
    ]


def draw_comparisons(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the rows of frames of every prompt below one another.

    Args:
        comparisons: What to draw, at least one; all videos of one size.
        path: `.png` or `.svg` file.

    Raises:
        UserError: There is nothing to draw.
        OutputError: The suffix is unknown or the place cannot be written to.
        MissingExtraError: matplotlib is not installed.
    """
    if not comparisons:
        raise UserError("There is nothing to draw: received no video.")
    check_figure_suffix(path)
    strips = [(one.prompt, name, strip(frames)) for one in comparisons for name, frames in one.rows.items()]
    height, width = strips[0][2].shape[:2]
    row = _INCHES * MOST_FRAMES * height / width
    figure = require("matplotlib.figure", extra="worldr1-train[plot]").Figure(
        figsize=(_INCHES * MOST_FRAMES + 0.6, (row + 0.13) * len(strips)), dpi=130, layout="constrained"
    )
    for panel, (prompt, name, pixels) in zip(figure.subplots(len(strips), 1, squeeze=False).flat, strips, strict=True):
        panel.imshow(pixels.numpy(), interpolation="nearest")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        panel.set_ylabel(name, fontsize=7)
        if name == BEFORE:
            panel.set_title(prompt[:150], fontsize=7, loc="left", pad=2)
    save_figure(figure, path)


def strip(frames: Tensor) -> Tensor:
    """At most `MOST_FRAMES` frames side by side, first and last among them: `(H, W', 3)` in [0, 1].

    Args:
        frames: `(T, 3, H, W)`.
    """
    count = min(MOST_FRAMES, frames.shape[0])
    shown = frames[torch.linspace(0, frames.shape[0] - 1, count).round().long()].clamp(0, 1).float().cpu()
    gap = torch.ones(shown.shape[2], _GAP, 3)
    columns = [part for frame in shown for part in (frame.permute(1, 2, 0), gap)]
    return torch.cat(columns[:-1], 1)
