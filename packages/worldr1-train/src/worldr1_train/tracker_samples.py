"""Logging of sample videos to the trackers of `report_to`, in addition to the metrics that transformers logs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from worldr1_train.contact_sheet import strip


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """Rollout clip that was written to disk.

    Attributes:
        tag: Name in the trackers.
        path: Video file.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        caption: Prompt and reward.
    """

    tag: str
    path: Path
    frames: Tensor
    caption: str


def log_samples(trackers: Sequence[str], callbacks: Iterable[Any], samples: Sequence[SampleVideo], step: int) -> None:
    """Send samples to every tracker: videos to wandb and trackio, and a strip of frames to TensorBoard.

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
            module.log(
                {sample.tag: module.Video(str(sample.path), caption=sample.caption, format="mp4") for sample in samples}
                | {"train/global_step": step}
            )
