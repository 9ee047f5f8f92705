"""Metrics that the trainer collects during a step, and their reduction over all processes to one entry of the log."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from worldr1_train.memory import GIB, peak_memory
from worldr1_train.objective import Advantages
from worldr1_train.rollouts import RolloutBatch, SampleScore


class MetricsProcessor:
    """Collects the metrics of a step, and gathers them over all processes.

    Args:
        num_samples: Samples of a rollout batch, over all processes.
        device: Device whose peak memory is recorded.
    """

    def __init__(self, num_samples: int, device: torch.device) -> None:
        self._num_samples, self._device = num_samples, device
        self._values: dict[str, list[float]] = defaultdict(list)

    def note(self, name: str, values: Tensor, valid: Tensor) -> None:
        """Record the mean over the valid pairs."""
        if bool(valid.any()):
            self._values[name].append(float(values[valid].mean()))

    def note_ratios(self, ratio: Tensor, drift: Tensor, valid: Tensor, *, low: float, high: float) -> None:
        """Record the distance of the probability ratio from 1.

        Args:
            ratio: `(b,)`, or `(b, h, w)` by place, to the policy that sampled.
            drift: `(b,)` log-ratio to the density that the sampler recorded, in its own batch.
            valid: `(b,)` pairs that count.
            low: How far the ratio may fall below 1.
            high: How far it may rise above 1.
        """
        if not bool(valid.any()):
            return
        deviation = ratio[valid] - 1
        self._values["ratio/max_deviation"].append(float(deviation.abs().max()))
        self._values["ratio/rollout_max_deviation"].append(float(torch.expm1(drift[valid]).abs().max()))
        clipped = (deviation < -low) | (deviation > high)
        self._values["clip_ratio/region_mean"].append(float(clipped.float().mean()))

    def note_scores(self, rollout_batch: int, stage: int, scores: list[SampleScore], advantages: Advantages) -> None:
        """Record the rewards of a rollout batch's samples; `stage` is its number in the cycle."""
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
        values["rollout_batch"].append(float(rollout_batch))
        values["stage"].append(float(stage))

    def note_rollouts(self, rollouts: RolloutBatch) -> None:
        """Record the durations of the phases of a rollout batch."""
        for phase, seconds in rollouts.seconds.items():
            self.note_phase(phase, seconds)

    def note_phase(self, phase: str, seconds: float) -> None:
        """Record the duration of a phase, and the samples per second."""
        self._values[f"seconds/{phase}"].append(seconds)
        if seconds > 0:
            self._values[f"samples_per_second/{phase}"].append(self._num_samples / seconds)

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
