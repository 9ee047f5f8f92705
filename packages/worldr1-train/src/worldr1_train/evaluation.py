"""Evaluation before and after training, with the same prompts and seeds, so that values can be compared in pairs.

Videos are generated with the deterministic sampler, and every reward is a metric.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.files import atomic_write_text
from worldr1_core.progress import Progress
from worldr1_train.evaluation_videos import EvaluationVideos
from worldr1_train.stages import ClipScorer

BEFORE, NOISE_ONLY, AFTER = "evaluation-before.json", "evaluation-noise-only.json", "evaluation-after.json"
"""Files of a run for its evaluations: of the model before training from plain noise, of the model before training with
the manifest's noise conditioner, and of the trained model."""

NUM_RESAMPLES = 2000
"""Number of bootstrap resamples."""


def metric_name(reward: str) -> str:
    """Return the name of a reward in results and logs, where `-` becomes `_`."""
    return reward.replace("-", "_")


@dataclass(frozen=True, slots=True)
class LabelledValues:
    """Values of a metric that is not a reward, one per prompt or per reference clip.

    Attributes:
        labels: Prompts, or names of reference clips.
        values: One value per label.
    """

    labels: list[str]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values of all metrics for the videos of an evaluation.

    Attributes:
        prompts: Prompt of every video.
        values: Metric (with `_` instead of `-`) -> value of every video; NaN if it is missing.
        held_out: Held-out metric, which is not a reward -> its values.
    """

    prompts: list[str]
    values: dict[str, list[float]]
    held_out: dict[str, LabelledValues] = field(default_factory=dict)

    def means(self) -> dict[str, float | None]:
        """Return metric -> mean over the values that are not missing; `None` if all are."""
        return {name: _mean(np.asarray(values)) for name, values in self._rows().items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return metric -> 95 % bootstrap interval of the mean, for metrics with any value."""
        rows = {name: np.asarray(values) for name, values in self._rows().items()}
        known = {name: row[np.isfinite(row)] for name, row in rows.items()}
        return {name: _bootstrap_interval(values) for name, values in known.items() if len(values)}

    def _rows(self) -> dict[str, list[float]]:
        return {**self.values, **{name: figure.values for name, figure in self.held_out.items()}}

    def save(self, path: Path) -> None:
        """Write as JSON; NaN becomes null."""
        values = {name: [None if math.isnan(v) else v for v in row] for name, row in self.values.items()}
        document: dict[str, Any] = {"prompts": self.prompts, "means": self.means(), "values": values}
        if self.held_out:
            document["held_out"] = {
                name: {"labels": figure.labels, "values": figure.values} for name, figure in self.held_out.items()
            }
        atomic_write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read a file that `save` wrote.

        Raises:
            UserError: The file cannot be read, or is not an evaluation.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            values = {name: [math.nan if v is None else v for v in row] for name, row in document["values"].items()}
            held_out = {
                name: LabelledValues(list(figure["labels"]), [float(value) for value in figure["values"]])
                for name, figure in document.get("held_out", {}).items()
            }
            return cls(document["prompts"], values, held_out)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{str(path)!r} cannot be read as an evaluation: {error}. Give a file written by `worldr1 eval --out` "
                "or `worldr1 train`."
            ) from error


class HeldOutFigure(Protocol):
    """Interface of a held-out metric: a measurement of the policy that is not a reward."""

    @property
    def name(self) -> str:
        """Name in results and logs, an identifier."""

    def labels(self, videos: EvaluationVideos) -> list[str]:
        """Return the labels of the values, such as prompts or clip names."""

    def measure(self, videos: EvaluationVideos, *, rank: int, num_processes: int) -> dict[int, float]:
        """Measure the current policy; return label index -> value for this process's share of the labels."""


Keep = Callable[[int, Clip], object]
"""Function that is called with the number and clip of every video, in the process that generated it."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Scores the videos of an evaluation.

    Attributes:
        videos: Videos to score.
        scorer: Scores videos with the rewards that are used as metrics.
        batch_size: Videos generated together.
        held_out: Held-out metrics to measure in addition.
    """

    videos: EvaluationVideos
    scorer: ClipScorer
    batch_size: int
    held_out: Sequence[HeldOutFigure] = ()

    def __call__(
        self, *, rank: int = 0, num_processes: int = 1, show_progress: bool = False, keep: Keep | None = None
    ) -> Evaluation:
        """Evaluate the current policy. The processes share the videos, and random states are preserved.

        Args:
            rank: Rank of this process.
            num_processes: Number of processes.
            show_progress: Show a progress bar on stderr.
            keep: Called with the number and clip of every video.

        Raises:
            UserError: A reward has the name of a held-out metric.
        """
        own = range(rank, len(self.videos), num_processes)
        starts = range(0, len(own), self.batch_size)
        progress: AbstractContextManager[Progress | None] = (
            Progress("Evaluating", len(starts) + len(self.held_out)) if show_progress else nullcontext()
        )
        rows: list[tuple[int, dict[str, float]]] = []
        with preserved_rng_state(), progress as bar:
            for start in starts:
                indices = own[start : start + self.batch_size]
                if bar is not None:
                    bar.begin(f"videos {indices[0]} to {indices[-1]}")
                clips = self.videos.generate(indices)
                results = self.scorer.score(clips, batch_size=len(clips))
                for index, clip, result in zip(indices, clips, results, strict=True):
                    rows.append((index, {name: score.value for name, score in result.scores.items()}))
                    if keep is not None:
                        keep(index, clip)
                if bar is not None:
                    bar.advance()
            held_out = {}
            for figure in self.held_out:
                if bar is not None:
                    bar.begin(figure.name.replace("_", " "))
                held_out[figure.name] = self._measure(figure, rank, num_processes)
                if bar is not None:
                    bar.advance()
        rows = sorted(gather_object(rows), key=lambda row: row[0])
        names = list(rows[0][1])
        values = {metric_name(name): [row[name] for _, row in rows] for name in names}
        if clash := sorted(values.keys() & held_out.keys()):
            raise UserError(
                f"The evaluation measures {clash[0]!r} itself, but a reward has the same name. Rename the reward."
            )
        return Evaluation(list(self.videos.prompts), values, held_out)

    def _measure(self, figure: HeldOutFigure, rank: int, num_processes: int) -> LabelledValues:
        labels = figure.labels(self.videos)
        found = dict(gather_object(list(figure.measure(self.videos, rank=rank, num_processes=num_processes).items())))
        numbers = sorted(found)  # incomplete if only some of the processes run, as in tests
        return LabelledValues([labels[number] for number in numbers], [found[number] for number in numbers])


@dataclass(frozen=True, slots=True)
class Change:
    """Paired change of a metric.

    Attributes:
        mean: After minus before, over the videos that have both values.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Upper end of the interval.
        num_pairs: Number of videos that have both values.
        before: Mean before, over the same videos.
    """

    mean: float
    low: float
    high: float
    num_pairs: int
    before: float = math.nan


def compare(before: Evaluation, after: Evaluation) -> dict[str, Change]:
    """Compute the paired change of every metric, with a 95 % percentile bootstrap interval.

    Bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Raises:
        UserError: The evaluations have different prompts or reference clips.
    """
    if before.prompts != after.prompts:
        raise UserError(
            f"The two evaluations have different prompts ({len(before.prompts)} and {len(after.prompts)} videos), and "
            "cannot be compared pair by pair. Evaluate both with the same prompts and num_seeds."
        )
    for name in before.held_out.keys() & after.held_out.keys():
        if before.held_out[name].labels != after.held_out[name].labels:
            raise UserError(
                f"{name} was measured on different prompts or clips in the two evaluations, and cannot be compared. "
                "Measure it on the same ones."
            )
    changes = {}
    earlier, later = before._rows(), after._rows()
    for name in [name for name in earlier if name in later]:
        old = np.asarray(earlier[name])
        difference = np.asarray(later[name]) - old
        known = np.isfinite(difference)
        if known.any():
            low, high = _bootstrap_interval(difference[known])
            mean = float(difference[known].mean())
            changes[name] = Change(mean, low, high, int(known.sum()), before=float(old[known].mean()))
    return changes


def summarise(changes: Mapping[str, Change]) -> dict[str, dict[str, float]]:
    """Return changes as plain data, rounded to six decimal places."""
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
    """Restore the random states of Python, NumPy and PyTorch after the block."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def _bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the 95 % percentile interval of the mean; for a single value, the value twice."""
    from scipy.stats import bootstrap  # a slow import that only comparisons need

    if len(values) == 1:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,), np.mean, n_resamples=NUM_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
