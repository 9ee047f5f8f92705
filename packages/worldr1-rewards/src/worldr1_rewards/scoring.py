"""Scoring clips: one reconstruction a clip however many rewards read it, and no failure that becomes a number."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import islice
from pathlib import Path

import structlog

from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents, WeightedReward, compose_scoring
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable, UserError
from worldr1_core.manifest import load_manifest, parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.registry import Registry
from worldr1_core.reward import Evidence, Reads, Score

log = structlog.get_logger(__name__)

DEFAULT_MANIFEST = "default.yaml"


@dataclass(frozen=True, slots=True)
class ClipScores:
    """What one clip earned.

    Attributes:
        clip: The clip.
        scores: Reward name -> score, in the manifest's order.
        total: Weighted sum over the applicable scores; NaN if one failed or none applies.
        reasons: Name (or `"total"`) -> why it is NaN.
        timings: Step name -> seconds.
        reconstruction: The shared reconstruction, for renders and reports; `None` if nothing read it or it failed.
    """

    clip: Clip
    scores: Mapping[str, Score]
    total: float
    reasons: Mapping[str, str]
    timings: Mapping[str, float]
    reconstruction: Reconstruction | None = None


@dataclass(slots=True)
class _Work:
    clip: Clip
    reconstruction: Reconstruction | None = None
    failure: ScoreUnavailable | None = None
    scores: dict[str, Score] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


class Scorer:
    """Scores clips with the rewards of a manifest.

    Example:
        ```python
        scorer = Scorer.from_manifest()
        for result in scorer.score([Clip(read_video("clip.mp4"), prompt="Camera push in. A red room.")]):
            print(result.total, result.reasons)
        ```

    Args:
        components: The rewards and what they read, from `worldr1_core.compose.compose_scoring`.
    """

    def __init__(self, components: ScoringComponents) -> None:
        self.components = components

    @classmethod
    def from_manifest(
        cls, path: str | Path | None = None, *, rewards: Iterable[str] | None = None, registry: Registry | None = None
    ) -> Scorer:
        """Compose a scorer.

        Args:
            path: Manifest file; the shipped weights-free default when left out.
            rewards: Names of the rewards to use, out of the manifest's order and others with their defaults.
            registry: Where names are looked up; what is installed when left out.

        Raises:
            ManifestError: The manifest does not validate.
            UserError: A named component cannot be had.
        """
        registry = installed().registry if registry is None else registry
        if path is None:
            text = resources.files("worldr1_rewards").joinpath(DEFAULT_MANIFEST).read_text(encoding="utf-8")
            manifest = parse_manifest(text, registry, name=f"worldr1_rewards/{DEFAULT_MANIFEST}")
        else:
            manifest = load_manifest(path, registry)
        return cls(compose_scoring(manifest, registry, only=rewards))

    def score(self, clips: Iterable[Clip], *, batch_size: int = 1) -> Iterator[ClipScores]:
        """Score clips, in order; a clip's result does not depend on its batch.

        Args:
            clips: May be a generator: only `batch_size` clips and reconstructions are held at once.
            batch_size: Clips handed to a reward together, >= 1; more pays for rewards that run a network.

        Raises:
            UserError: The pipeline cannot work for any clip (absent weights or extra).
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, received {batch_size!r}.")
        source = iter(clips)
        while batch := [_Work(clip) for clip in islice(source, batch_size)]:
            for work in batch:
                self._reconstruct(work)
            for weighted in self.components.rewards:
                self._apply(weighted, batch)
            while batch:
                yield self._finish(batch.pop(0))

    def _reconstruct(self, work: _Work) -> None:
        reconstructor = self.components.reconstructor
        if reconstructor is None:
            return
        start = time.perf_counter()
        try:
            work.reconstruction = reconstructor.reconstruct(work.clip)
        except UserError:
            raise
        except ScoreUnavailable as error:
            work.failure = error
        except Exception as error:
            log.warning("reconstruction failed", clip=work.clip.name, exc_info=True)
            work.failure = ScoreUnavailable(f"reconstruction failed: {type(error).__name__}: {error}")
        work.timings["reconstructor"] = time.perf_counter() - start

    def _apply(self, weighted: WeightedReward, batch: Sequence[_Work]) -> None:
        reads_scene = Reads.RECONSTRUCTION in weighted.reward.reads
        ready = [w for w in batch if not (reads_scene and w.failure)]
        for work in batch:
            if reads_scene and work.failure is not None:
                work.scores[weighted.name] = _to_score(work.failure, weighted, work.clip)
        if not ready:
            return
        judge = self.components.judge if Reads.JUDGE in weighted.reward.reads else None
        evidence = [Evidence(w.reconstruction if reads_scene else None, judge) for w in ready]
        start = time.perf_counter()
        try:
            answers = weighted.reward.score_batch([w.clip for w in ready], evidence)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - becomes the reason of every clip in the batch, and is logged
            answers = [error] * len(ready)
        if len(answers) != len(ready):
            raise PluginError(
                f"Reward {weighted.name!r} returned {len(answers)} scores for {len(ready)} clips. "
                "score_batch must return one entry a clip, in order."
            )
        seconds = (time.perf_counter() - start) / len(ready)
        for work, answer in zip(ready, answers, strict=True):
            work.scores[weighted.name] = _to_score(answer, weighted, work.clip)
            work.timings[weighted.name] = seconds

    def _finish(self, work: _Work) -> ClipScores:
        scores = {w.name: work.scores[w.name] for w in self.components.rewards}
        total, reason = self._total(scores)
        reasons = {name: score.reason for name, score in scores.items() if score.reason is not None}
        if reason is not None:
            reasons["total"] = reason
        work.timings["total"] = sum(work.timings.values())
        return ClipScores(work.clip, scores, total, reasons, work.timings, work.reconstruction)

    def _total(self, scores: Mapping[str, Score]) -> tuple[float, str | None]:
        failed = [name for name, score in scores.items() if score.reason is not None and score.applicable]
        if failed:
            return math.nan, f"no score of {', '.join(failed)}"
        counted = [w for w in self.components.rewards if scores[w.name].reason is None]
        if not counted:
            return math.nan, "no reward applies to this clip"
        return sum(w.weight * scores[w.name].value for w in counted), None


def _to_score(answer: object, weighted: WeightedReward, clip: Clip) -> Score:
    """A reward's answer as a score; an exception becomes NaN with its reason."""
    if isinstance(answer, Score):
        return answer
    if isinstance(answer, UserError):
        raise answer
    if isinstance(answer, ScoreUnavailable):
        return Score.unavailable(str(answer), applicable=not isinstance(answer, ScoreNotApplicable))
    if isinstance(answer, Exception):
        log.warning("reward failed", reward=weighted.name, clip=clip.name, exc_info=answer)
        return Score.unavailable(f"{type(answer).__name__}: {answer}")
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return Score.unavailable(f"reward {weighted.name!r} returned {answer!r}; a score is a float or a Score")
    if not math.isfinite(answer):
        return Score.unavailable(f"reward {weighted.name!r} returned {answer!r} without a reason")
    return Score(float(answer))
