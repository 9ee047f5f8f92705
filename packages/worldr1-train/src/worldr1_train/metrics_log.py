"""Collection of the metrics of a step, and their reduction over all processes to one log entry."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from worldr1_train.advantages import Advantages
from worldr1_train.memory import GIB, peak_memory
from worldr1_train.rollouts import RolloutBatch, SampleScore


class MetricsProcessor:
    """Collects the metrics of a step, and gathers them over all processes.

    Args:
        num_samples: Samples per rollout batch, over all processes.
        device: Device whose peak memory is recorded.
    """

    def __init__(self, num_samples: int, device: torch.device) -> None:
        self._num_samples, self._device = num_samples, device
        self._values: dict[str, list[float]] = defaultdict(list)

    def note(self, name: str, values: Tensor, valid: Tensor) -> None:
        """Record the mean over the valid items; the maximum for names with `max_`."""
        if bool(valid.any()):
            counted = values.detach()[valid]
            self._values[name].append(float(counted.max() if "max_" in name else counted.mean()))

    def note_stage(self, rollout_batch: int, stage: int) -> None:
        """Record the number of the rollout batch, and the number of its stage in the cycle."""
        self._values["rollout_batch"].append(float(rollout_batch))
        self._values["stage"].append(float(stage))

    def note_scores(self, scores: list[SampleScore], advantages: Advantages) -> None:
        """Record the rewards, and the numbers of masked samples and skipped groups, of a rollout batch."""
        values = self._values
        totals = np.array([score.total for score in scores])
        values["reward"].append(_nan_mean(totals))
        values["reward_std"].append(_nan_mean(advantages.group_std.numpy()))
        for name in scores[0].values:
            found = np.array([score.values[name] for score in scores])
            values[f"rewards/{name}/mean"].append(_nan_mean(found))
            values[f"rewards/{name}/std"].append(float(np.nanstd(found)) if np.isfinite(found).any() else math.nan)
        values["masked_samples"].append(float((~advantages.valid).sum()))
        values["skipped_groups"].append(float(advantages.num_skipped_groups))

    def note_rollouts(self, batches: Sequence[RolloutBatch]) -> None:
        """Record the durations of the phases, summed over the rollout batches of the objectives, and the refills."""
        for phase in dict.fromkeys(phase for rollouts in batches for phase in rollouts.seconds):
            seconds = [rollouts.seconds[phase] for rollouts in batches if phase in rollouts.seconds]
            self.note_phase(phase, sum(seconds), len(seconds))
        if num_refilled := sum(rollouts.num_refilled for rollouts in batches):
            self._values["refilled_samples"].append(num_refilled)

    def note_phase(self, phase: str, seconds: float, num_batches: int = 1) -> None:
        """Record the duration in seconds of a phase of so many rollout batches, and its samples per second."""
        self._values[f"seconds/{phase}"].append(seconds)
        if seconds > 0:
            self._values[f"samples_per_second/{phase}"].append(num_batches * self._num_samples / seconds)

    def note_memory(self) -> None:
        """Record the peak memory so far."""
        self._values["memory/max_gib"].append(peak_memory(self._device) / GIB)

    def take(self) -> dict[str, float]:
        """Return the means (maxima for `max_`) of the values recorded since the last call, over all processes."""
        own = {name: (np.max if "max_" in name else np.mean)(values) for name, values in self._values.items()}
        merged: dict[str, list[float]] = defaultdict(list)
        for part in gather_object([own]):
            for name, value in part.items():
                merged[name].append(float(value))
        self._values.clear()
        return {name: float((np.max if "max_" in name else np.mean)(values)) for name, values in merged.items()}


def _nan_mean(values: Any) -> float:
    values = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
