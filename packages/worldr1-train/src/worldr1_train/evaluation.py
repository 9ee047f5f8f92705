"""Before and after: the same prompts and seeds, the deterministic sampler, every reward as a metric, paired."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object

from worldr1_core.errors import UserError
from worldr1_core.files import atomic_write_text
from worldr1_core.progress import Progress
from worldr1_train.evaluation_videos import EvaluationVideos
from worldr1_train.stages import ClipScorer

BEFORE, AFTER = "evaluation-before.json", "evaluation-after.json"
"""Files of a run that hold its evaluations."""

NUM_RESAMPLES = 2000
"""Resamples of the bootstrap."""


def metric_name(reward: str) -> str:
    """Name of a reward as a metric of results and logs: an identifier."""
    return reward.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the videos of an evaluation were worth.

    Attributes:
        prompts: Prompt of every video.
        values: Metric (`-` written `_`) -> value of every video, NaN where there is none.
    """

    prompts: list[str]
    values: dict[str, list[float]]

    def means(self) -> dict[str, float | None]:
        """Metric -> mean over the videos that have a value; `None` where none has."""
        return {name: _mean(np.asarray(values)) for name, values in self.values.items()}

    def save(self, path: Path) -> None:
        """Write as JSON; NaN becomes null."""
        values = {name: [None if math.isnan(v) else v for v in row] for name, row in self.values.items()}
        document = {"prompts": self.prompts, "means": self.means(), "values": values}
        atomic_write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            UserError: It is no such file.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            values = {name: [math.nan if v is None else v for v in row] for name, row in document["values"].items()}
            return cls(document["prompts"], values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{str(path)!r} is no evaluation that could be read: {error}.") from error


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Scores the videos of an evaluation.

    Attributes:
        videos: What is scored.
        scorer: Scores with the rewards that are the metrics.
        batch_size: Videos made together.
    """

    videos: EvaluationVideos
    scorer: ClipScorer
    batch_size: int

    def __call__(self, *, rank: int = 0, num_processes: int = 1, show_progress: bool = False) -> Evaluation:
        """Evaluate the policy as it is; the processes share the videos, and nothing random outside is touched."""
        own = range(rank, len(self.videos), num_processes)
        starts = range(0, len(own), self.batch_size)
        rows: list[tuple[int, dict[str, float]]] = []
        with preserved_rng_state(), Progress("Evaluating", len(starts)) if show_progress else nullcontext() as progress:
            for start in starts:
                indices = own[start : start + self.batch_size]
                if progress is not None:
                    progress.begin(f"videos {indices[0]} to {indices[-1]}")
                clips = self.videos.generate(indices)
                results = self.scorer.score(clips, batch_size=len(clips))
                for index, result in zip(indices, results, strict=True):
                    rows.append((index, {name: score.value for name, score in result.scores.items()}))
                if progress is not None:
                    progress.advance()
        rows = sorted(gather_object(rows), key=lambda row: row[0])
        names = list(rows[0][1])
        values = {metric_name(name): [row[name] for _, row in rows] for name in names}
        return Evaluation(list(self.videos.prompts), values)


@dataclass(frozen=True, slots=True)
class Change:
    """A paired difference.

    Attributes:
        mean: After minus before, over the videos that have both values.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Its upper end.
        num_pairs: Videos that have both values.
    """

    mean: float
    low: float
    high: float
    num_pairs: int


def compare(before: Evaluation, after: Evaluation) -> dict[str, Change]:
    """Paired change of every metric, with a 95 % percentile bootstrap interval (Efron and Tibshirani, 1993).

    Raises:
        UserError: The two are not of the same videos.
    """
    if before.prompts != after.prompts:
        raise UserError("The two evaluations are of other prompts, and cannot be compared pair by pair.")
    changes = {}
    for name in [name for name in before.values if name in after.values]:
        difference = np.asarray(after.values[name]) - np.asarray(before.values[name])
        difference = difference[np.isfinite(difference)]
        if len(difference):
            low, high = _bootstrap_interval(difference)
            changes[name] = Change(float(difference.mean()), low, high, len(difference))
    return changes


def summarise(changes: Mapping[str, Change]) -> dict[str, dict[str, float]]:
    """Changes as plain data, rounded to six digits after the point."""
    return {
        name: {
            "mean": round(change.mean, 6),
            "low": round(change.low, 6),
            "high": round(change.high, 6),
            "num_pairs": change.num_pairs,
        }
        for name, change in changes.items()
    }


@contextmanager
def preserved_rng_state() -> Iterator[None]:
    """Within the block everything random may be drawn from; afterwards the generators stand where they stood."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def _bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of the mean; the value twice where there is one alone."""
    from scipy.stats import bootstrap  # takes seconds to import, and commands that do not compare need none of it

    if len(values) == 1:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,), np.mean, n_resamples=NUM_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
