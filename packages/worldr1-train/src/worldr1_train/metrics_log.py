"""What the trainer notes while it works, and how it becomes one entry of the log over all processes."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from worldr1_train.memory import GIB, peak_memory
from worldr1_train.objective import Advantages
from worldr1_train.rollouts import RolloutBatch, SampleScore
from worldr1_train.stages import Stage, StageSchedule

if TYPE_CHECKING:
    from worldr1_train.config import FlowGRPOConfig


class MetricsMixin:
    """Notes of the update and of the rollouts, and `transformers.Trainer.log` with them."""

    args: FlowGRPOConfig
    accelerator: Any
    schedule: StageSchedule
    _metrics: dict[str, dict[str, list[Any]]]

    def _note(self, name: str, values: Tensor, valid: Tensor) -> None:
        if bool(valid.any()):
            self._metrics["train"][name].append(float(values[valid].mean()))

    def _note_ratios(self, ratio: Tensor, drift: Tensor, valid: Tensor, high: float) -> None:
        """`drift` is the log-ratio to the density that the sampler recorded, in its own batch."""
        if not bool(valid.any()):
            return
        deviation = ratio[valid] - 1
        metrics = self._metrics["train"]
        metrics["ratio/max_deviation"].append(float(deviation.abs().max()))
        metrics["ratio/rollout_max_deviation"].append(float(torch.expm1(drift[valid]).abs().max()))
        clipped = (deviation < -self.args.epsilon) | (deviation > high)
        metrics["clip_ratio/region_mean"].append(float(clipped.float().mean()))

    def _log_scores(self, rollout_batch: int, stage: Stage, scores: list[SampleScore], advantages: Advantages) -> None:
        metrics = self._metrics["train"]
        totals = np.array([score.total for score in scores])
        metrics["reward"].append(_nan_mean(totals))
        metrics["reward_std"].append(_nan_mean(advantages.group_std.numpy()))
        for name in scores[0].values:
            values = np.array([score.values[name] for score in scores])
            metrics[f"rewards/{name}/mean"].append(_nan_mean(values))
            metrics[f"rewards/{name}/std"].append(float(np.nanstd(values)) if np.isfinite(values).any() else math.nan)
        metrics["masked_samples"].append(float((~advantages.valid).sum()))
        metrics["skipped_groups"].append(float(advantages.num_skipped_groups))
        metrics["rollout_batch"].append(float(rollout_batch))
        metrics["stage"].append(float(self.schedule.stages.index(stage)))

    def _log_seconds(self, rollouts: RolloutBatch) -> None:
        for phase, seconds in rollouts.seconds.items():
            self._log_phase(phase, seconds)

    def _log_phase(self, phase: str, seconds: float) -> None:
        samples = self.args.prompts_per_rollout_batch * self.args.num_generations
        self._metrics["train"][f"seconds/{phase}"].append(seconds)
        if seconds > 0:
            self._metrics["train"][f"samples_per_second/{phase}"].append(samples / seconds)

    def _log_memory(self) -> None:
        self._metrics["train"]["memory/max_gib"].append(peak_memory(self.accelerator.device) / GIB)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means (maxima for `max_`) of what was noted since the last log, over all processes.

        What was noted stays for the step's own log where an evaluation is logged before it.
        """
        if any(name.startswith("eval/") for name in logs):
            super().log(logs, start_time)  # type: ignore[misc]
            return
        metrics = self._metrics["train"]
        gathered = gather_object([{name: (np.max if "max_" in name else np.mean)(v) for name, v in metrics.items()}])
        merged: dict[str, list[float]] = defaultdict(list)
        for part in gathered:
            for name, value in part.items():
                merged[name].append(float(value))
        added = {name: float((np.max if "max_" in name else np.mean)(values)) for name, values in merged.items()}
        metrics.clear()
        super().log({**logs, **added}, start_time)  # type: ignore[misc]


def _nan_mean(values: Any) -> float:
    values = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
