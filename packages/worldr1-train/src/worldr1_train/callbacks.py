"""Callbacks that write `metrics.jsonl` and sample videos, and evaluate the policy, during training."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from worldr1_core.files import atomic_write_text
from worldr1_core.video_io import write_video
from worldr1_train.evaluation import Evaluation
from worldr1_train.tracker_samples import SampleVideo, log_samples

if TYPE_CHECKING:
    from worldr1_train.rollouts import SampleScore
    from worldr1_train.trainer import FlowGRPOTrainer


class MetricsFile(TrainerCallback):
    """Writes one JSON line per log to `metrics.jsonl`; a resumed run continues after the step of its checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the lines that a resumed run will write again."""
        if not state.is_world_process_zero or not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if (step := _step_of(line)) is not None and step <= state.global_step]
        atomic_write_text(self.path, "".join(line + "\n" for line in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Append a line."""
        if not state.is_world_process_zero or not logs:
            return
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in logs.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **plain}, allow_nan=False) + "\n")


class SampleVideos(TrainerCallback):
    """Writes the kept clips of a rollout batch to `samples/`, and sends them to the trackers."""

    def __init__(self, trainer: FlowGRPOTrainer, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder / "samples"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write once per rollout batch."""
        rollout_batch = self._trainer.last_rollout_batch
        if rollout_batch is None or not rollout_batch.clips or not state.is_world_process_zero:
            return
        samples = []
        # There are no scores if the objective computes rewards itself.
        scores: Sequence[SampleScore | None] = rollout_batch.scores or [None] * len(rollout_batch.clips)
        for number, (clip, score) in enumerate(zip(rollout_batch.clips, scores, strict=False)):
            stem = f"step{state.global_step:06d}-{re.sub(r'[^0-9a-z]+', '-', clip.name.lower())}"
            path = self._folder / f"{stem}.mp4"
            write_video(clip.video, path)
            values = {} if score is None else {"total": score.total, **score.values}
            record: dict[str, Any] = {"prompt": clip.prompt, **values}
            plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}
            (self._folder / f"{stem}.json").write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
            caption = clip.prompt if score is None else f"{clip.prompt} (reward {score.total:.3f})"
            samples.append(SampleVideo(f"samples/{number}", path, clip.video.frames, caption, clip.prompt, values))
        log_samples(args.report_to, self._trainer.callback_handler.callbacks, samples, state.global_step)
        rollout_batch.clips = []


class PeriodicEvaluation(TrainerCallback):
    """Evaluates the averaged policy at regular intervals of optimiser steps.

    Attributes:
        observers: Functions that are called with each evaluation and the number of completed optimiser steps.
    """

    def __init__(self, trainer: FlowGRPOTrainer, evaluate: Callable[[], Evaluation], every: int) -> None:
        self._trainer, self._evaluate, self._every = trainer, evaluate, every
        self.observers: list[Callable[[Evaluation, int], object]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate at the interval, but not after the last step, and log the means under `eval/`."""
        if state.global_step % self._every or state.global_step == state.max_steps:
            return
        with self._trainer.averaged():
            found = self._evaluate()
        means = found.means()
        due = control.should_log  # logging resets it, but the step itself is logged later
        self._trainer.log({f"eval/{name}": math.nan if value is None else value for name, value in means.items()})
        control.should_log = due
        for observe in self.observers:
            observe(found, state.global_step)


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None  # the last line of a killed run may be incomplete
