"""Measurement of one video with all metrics of an evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worldr1_core.clip import Clip
from worldr1_core.component import load_component
from worldr1_core.compose import WeightedReward
from worldr1_core.errors import TrajectoryError, UserError, VideoError
from worldr1_core.placement import PlacedReward
from worldr1_core.plugins import installed
from worldr1_core.reward import Score
from worldr1_core.scoring import ClipScores, ScoringEngine
from worldr1_rewards.evaluation.columns import Column, columns_of
from worldr1_rewards.evaluation.jobs import VideoJob
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.sections import Sections

UNDEFINED = "not defined for this clip"
"""Reason for a column that a metric left out."""


@dataclass(slots=True)
class _Cells:
    values: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    inapplicable: dict[str, str] = field(default_factory=dict)


class VideoMeasurer:
    """Measures videos one after the other; nothing of a video is kept in memory.

    Args:
        engine: Scores clips with the rewards that are used as metrics.
        sections: Sections of the page, which are written on the way; or `None`.

    Attributes:
        columns: Reward -> its columns.

    Raises:
        UserError: Two metrics have a column of the same name.
    """

    def __init__(self, engine: ScoringEngine, sections: Sections | None = None) -> None:
        self.engine = engine
        self.sections = sections
        self.columns = metric_columns({weighted.name: _described(weighted) for weighted in engine.components.rewards})

    def measure(self, job: VideoJob, fingerprint: str) -> VideoRecord:
        """Read and measure one video; a video that cannot be read, or whose command does not fit, is an error in it.

        Raises:
            UserError: The metrics cannot work for any video (absent weights or extra).
        """
        start = time.perf_counter()
        try:
            clip = job.load()
        except UserError as error:
            return failed_record(job, str(error), fingerprint, time.perf_counter() - start)
        try:
            (result,) = self.engine.score([clip])
        except (VideoError, TrajectoryError) as error:
            return failed_record(job, str(error), fingerprint, time.perf_counter() - start)
        cells, seconds = self._cells(result), round(time.perf_counter() - start, 3)
        if self.sections is not None:
            self.sections.write(job, fingerprint, result)
        return VideoRecord(
            **_identity(job),
            values=cells.values,
            failures=cells.failures,
            inapplicable=cells.inapplicable,
            num_frames=clip.video.num_frames,
            size=clip.video.size,
            seconds=seconds,
            fingerprint=fingerprint,
        )

    def measure_clip(self, clip: Clip, column: str) -> tuple[float | None, bool]:
        """Return the value of one column, `None` without one, and whether it could not be measured.

        Args:
            clip: The clip.
            column: Name of the column.
        """
        (result,) = self.engine.score([clip])
        cells = self._cells(result)
        return cells.values.get(column), column in cells.failures

    def _cells(self, result: ClipScores) -> _Cells:
        cells = _Cells()
        for name, score in result.scores.items():
            _add(cells, score, self.columns[name], _reason(result, name))
        return cells


def _described(weighted: WeightedReward) -> object:
    """Object or class that lists the columns of a reward: one that runs elsewhere is described by its class."""
    if isinstance(weighted.reward, PlacedReward):
        return load_component(installed().registry, "reward", weighted.name)
    return weighted.reward


def metric_columns(rewards: Mapping[str, object]) -> dict[str, tuple[Column, ...]]:
    """Return the columns of every reward.

    Args:
        rewards: Name -> reward, an object or a class.

    Raises:
        UserError: Two metrics have a column of the same name.
    """
    columns = {name: columns_of(name, reward) for name, reward in rewards.items()}
    owners: dict[str, str] = {}
    for name, own in columns.items():
        for column in own:
            if column.name in owners:
                raise UserError(
                    f"The metrics {owners[column.name]!r} and {name!r} both report a column {column.name!r}. Measure "
                    "one of them."
                )
            owners[column.name] = name
    return columns


def failed_record(job: VideoJob, reason: str, fingerprint: str, seconds: float = 0.0) -> VideoRecord:
    """Return the record of a video that could not be measured at all."""
    return VideoRecord(**_identity(job), error=reason, seconds=round(seconds, 3), fingerprint=fingerprint)


def _identity(job: VideoJob) -> dict[str, Any]:
    return {
        "method": job.method,
        "video": job.name,
        "prompt": job.prompt,
        "prompt_index": job.prompt_index,
        "seed": job.seed,
        "move": job.move,
        "scene": job.scene,
    }


def _reason(result: ClipScores, name: str) -> str:
    return result.reasons.get(name, "").removeprefix(f"{result.clip.name}: ")


def _add(cells: _Cells, score: Score, columns: Sequence[Column], reason: str) -> None:
    for column in columns:
        if score.reason is not None:
            (cells.failures if score.applicable else cells.inapplicable)[column.name] = reason
            if score.applicable and column.failure is not None:
                cells.values[column.name] = column.failure
            continue
        value = score.details.get(column.name, score.value if len(columns) == 1 else None)
        if value is None:
            cells.inapplicable[column.name] = UNDEFINED
        elif not math.isfinite(value):
            cells.failures[column.name] = f"the metric returned {value!r}"
        else:
            cells.values[column.name] = float(value)
