"""Cost of a run in time and videos, from its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worldr1_train.run_files import RunFiles

_PHASES = {
    "sampling": "sampling of videos",
    "decoding": "decoding of videos",
    "waiting": "waiting for rewards",
    "rewards": "rewards, in the background",
    "update": "updates of the weights",
}
"""Logged phase -> its name; rewards run beside the other phases."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the rollout batches.

    Attributes:
        name: Its name.
        seconds: Time over all rollout batches.
        share: Share of the time of all rollout batches, in [0, 1].
        per_video: Seconds per video.
    """

    name: str
    seconds: float
    share: float
    per_video: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a run so far.

    Attributes:
        seconds: Time of all rollout batches.
        num_rollout_videos: Videos that were sampled to train on, refills included.
        num_evaluation_videos: Videos of the evaluations before and after training.
        peak_gib: Largest memory of a process, GiB; `None` if it was not logged.
        phases: Phases that took time, in the order of a rollout batch.
    """

    seconds: float
    num_rollout_videos: int
    num_evaluation_videos: int
    peak_gib: float | None
    phases: Sequence[Phase]


def run_cost(run: RunFiles) -> Cost:
    """Sum up the cost of a run.

    Args:
        run: Its files.
    """
    num_batches = run.num_rollout_batches
    per_batch = int(run.section["group_size"]) * int(run.section["prompts_per_rollout_batch"])
    num_videos = num_batches * per_batch + round(sum(run.values("refilled_samples")))
    total = _total(run, "rollout_batch", num_batches)
    phases = []
    for key, name in _PHASES.items():
        seconds = _total(run, key, num_batches)
        if seconds > 0 and total > 0:
            phases.append(Phase(name, seconds, min(1.0, seconds / total), seconds / max(1, num_videos)))
    return Cost(
        seconds=total,
        num_rollout_videos=num_videos,
        num_evaluation_videos=sum(len(evaluation.prompts) for evaluation in run.evaluations.values()),
        peak_gib=max(run.values("memory/max_gib"), default=None),
        phases=phases,
    )


def _total(run: RunFiles, phase: str, num_batches: int) -> float:
    """Seconds of a phase over all rollout batches; a log that covers several holds their mean."""
    values = run.values(f"seconds/{phase}")
    return sum(values) / len(values) * num_batches if values else 0.0
