"""Logging of sample videos to the trackers of `report_to`, in addition to the metrics that transformers logs."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from worldr1_train.contact_sheet import strip

TABLE = "samples/table"
"""Name of the table of samples in wandb and trackio."""


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """Rollout clip that was written to disk.

    Attributes:
        tag: Name in the trackers.
        path: Video file.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        caption: Prompt and reward.
        prompt: Prompt.
        scores: Reward -> value, the total first; NaN if it is missing.
    """

    tag: str
    path: Path
    frames: Tensor
    caption: str
    prompt: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def log_samples(trackers: Sequence[str], callbacks: Iterable[Any], samples: Sequence[SampleVideo], step: int) -> None:
    """Send samples to every tracker: videos and their table to wandb and trackio, strips of frames to TensorBoard.

    The table `samples/table` has one row per sample: tag, prompt, every reward, and the video.

    TensorBoard's own videos would need another package and be converted to GIFs. transformers starts the trackers;
    nothing is sent to wandb or TensorBoard without an active run.

    Args:
        trackers: Tracker names, as in `report_to`.
        callbacks: Callbacks of the trainer; TensorBoard's callback has the writer.
        samples: Clips to log.
        step: Optimiser step.
    """
    for name in trackers:
        if name == "tensorboard":
            for writer in filter(None, (getattr(callback, "tb_writer", None) for callback in callbacks)):
                for sample in samples:
                    writer.add_image(sample.tag, strip(sample.frames), step, dataformats="HWC")
                    writer.add_text(f"{sample.tag}/caption", sample.caption, step)
        elif name in ("wandb", "trackio"):
            module = importlib.import_module(name)
            if name == "wandb" and module.run is None:
                continue
            videos = {s.tag: module.Video(str(s.path), caption=s.caption, format="mp4") for s in samples}
            module.log({**videos, TABLE: _table(module, samples), "train/global_step": step})


def _table(module: Any, samples: Sequence[SampleVideo]) -> Any:
    names = list(dict.fromkeys(name for sample in samples for name in sample.scores))
    rows = [
        [
            sample.tag,
            sample.prompt,
            *(_finite(sample.scores.get(name)) for name in names),
            module.Video(str(sample.path), caption=sample.caption, format="mp4"),
        ]
        for sample in samples
    ]
    return module.Table(columns=["sample", "prompt", *names, "video"], data=rows)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
