"""Scoring of clips: one reconstruction per clip is shared by all rewards, and a failure gives NaN with a reason."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.errors import (
    PluginError,
    ScoreNotApplicable,
    ScoreUnavailable,
    UserError,
    describe_exception,
    shorten,
)
from worldr1_core.log import get_logger
from worldr1_core.log_ids import bound_ids, prompt_id
from worldr1_core.placement import PlacedReward, ScoredClip, start_placed
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.reward import Requirement, RewardInputs, Score, as_number
from worldr1_core.tracing import span

log = get_logger(__name__)

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class ClipScores:
    """Scores of one clip.

    Attributes:
        clip: The clip.
        scores: Reward name -> score, in the manifest's order.
        total: Weighted sum over the applicable scores; NaN if one failed or none applies. A reward of weight 0 is
            reported, and does not affect the total.
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


class ScoringEngine:
    """Scores clips with composed rewards; `worldr1_rewards.Scorer` and the trainer are built on it.

    Args:
        components: The rewards and what they read, from `worldr1_core.compose.compose_scoring`.
    """

    def __init__(self, components: ScoringComponents) -> None:
        self.components = components

    @property
    def requires(self) -> frozenset[Requirement]:
        """Union of the inputs that the rewards require."""
        return self.components.requires

    def score(self, clips: Iterable[Clip], *, batch_size: int = 1) -> Iterator[ClipScores]:
        """Score clips, in order; a clip's result does not depend on its batch.

        Args:
            clips: May be a generator: only `batch_size` clips and reconstructions are held at once.
            batch_size: Clips handed to a reward together, >= 1; more pays for rewards that run a network.

        Raises:
            UserError: The arguments are not of this form, or the pipeline cannot work for any clip (absent weights or
                extra).
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size must be a whole number of at least 1, received {batch_size!r}.")
        if not isinstance(clips, Iterable):
            raise UserError(f"score takes clips, received one {type(clips).__name__}. Put it in a list.")
        return self._stream(iter(clips), batch_size)

    def begin(self, clips: Sequence[Clip]) -> ScoringUnderWay:
        """Send clips to the rewards that run elsewhere, and return before they are scored.

        Args:
            clips: At least one; they are handed to each reward together.

        Returns:
            Handle of these clips. Several may be under way at once.
        """
        return ScoringUnderWay(self, clips)

    def _stream(self, source: Iterator[Clip], batch_size: int) -> Iterator[ClipScores]:
        while batch := [_Work(clip) for clip in islice(source, batch_size)]:
            self._score_batch(batch)
            while batch:
                yield self._finish(batch.pop(0))

    def _score_batch(self, batch: list[_Work]) -> None:
        pending = self._start_elsewhere(batch)
        self._score_here(batch)
        _add_scores(batch, pending)

    def _start_elsewhere(self, batch: Sequence[_Work]) -> list[Future[list[ScoredClip]]]:
        rewards = [weighted.reward for weighted in self.components.rewards]
        return start_placed(rewards, [work.clip for work in batch])

    def _score_here(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            with _ids_of([work]):
                self._reconstruct(work)
        with _ids_of(batch):
            for weighted in self.components.rewards:
                if not isinstance(weighted.reward, PlacedReward):
                    self._apply(weighted, batch)

    def _reconstruct(self, work: _Work) -> None:
        reconstructor = self.components.reconstructor
        if reconstructor is None:
            return
        start = time.perf_counter()
        try:
            with span("reconstruct", sample=work.clip.name):
                found = reconstructor.reconstruct(work.clip)
            if not isinstance(found, Reconstruction):
                raise TypeError(f"{type(reconstructor).__name__} returned {shorten(found)}, not a Reconstruction")
            work.reconstruction = found
        except UserError:
            raise
        except ScoreUnavailable as error:
            work.failure = _without_frames(error)
        except Exception as error:  # noqa: BLE001 - becomes the clip's reason, and is logged
            log.warning("reconstruction failed", clip=work.clip.name, stack=_traceback(error))
            work.failure = ScoreUnavailable(f"reconstruction failed: {describe_exception(error)}")
        work.timings["reconstructor"] = time.perf_counter() - start

    def _apply(self, weighted: WeightedReward, batch: Sequence[_Work]) -> None:
        needs_scene = Requirement.RECONSTRUCTION in weighted.reward.requires
        ready = [w for w in batch if not (needs_scene and w.failure)]
        for work in batch:
            if needs_scene and work.failure is not None:
                work.scores[weighted.name] = _to_score(work.failure, weighted, work.clip)
        if not ready:
            return
        judge = self.components.judge if Requirement.JUDGE in weighted.reward.requires else None
        needs_reference = Requirement.REFERENCE in weighted.reward.requires
        inputs = [
            RewardInputs(
                w.reconstruction if needs_scene else None, judge, w.clip.reference if needs_reference else None
            )
            for w in ready
        ]
        start = time.perf_counter()
        with span("score", reward=weighted.name, samples=[w.clip.name for w in ready]):
            answers = _ask(weighted, [w.clip for w in ready], inputs)
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
        weighted = [w for w in self.components.rewards if w.weight > 0]
        failed = [w.name for w in weighted if scores[w.name].reason is not None and scores[w.name].applicable]
        if failed:
            return math.nan, f"no score of {', '.join(failed)}"
        counted = [w for w in weighted if scores[w.name].reason is None]
        if not counted:
            return math.nan, "no reward applies to this clip" if weighted else "every reward has weight 0"
        total = sum(w.weight * scores[w.name].value for w in counted)
        return (total, None) if math.isfinite(total) else (math.nan, "the weighted sum is too large for a float")


class ScoringUnderWay:
    """Clips that rewards elsewhere are scoring. Those of this process score them when `score_here` is called.

    Args:
        engine: Engine whose rewards score.
        clips: The clips.

    Attributes:
        elsewhere: Per place of the rewards, a future that is done when the scores have come back.
    """

    def __init__(self, engine: ScoringEngine, clips: Sequence[Clip]) -> None:
        self._engine, self._batch = engine, [_Work(clip) for clip in clips]
        self.elsewhere = engine._start_elsewhere(self._batch)

    def score_here(self) -> None:
        """Score with the rewards of this process; most of them cannot be called from several threads at once.

        Raises:
            UserError: They cannot work for any clip.
        """
        self._engine._score_here(self._batch)
        for work in self._batch:
            work.reconstruction = None  # it would stay in memory until the last score is there

    def results(self) -> list[ClipScores]:
        """Wait for the rewards elsewhere, and return the scores, without reconstructions; call `score_here` before.

        Raises:
            UserError: The rewards cannot work for any clip.
        """
        _add_scores(self._batch, self.elsewhere)
        return [self._engine._finish(work) for work in self._batch]


def _ids_of(batch: Sequence[_Work]) -> AbstractContextManager[Any]:
    """Bind the ids of a clip to log lines; rewards that score several clips at once name the clip themselves."""
    if len(batch) != 1:
        return nullcontext()
    clip = batch[0].clip
    return bound_ids(sample=clip.name, prompt=prompt_id(clip.prompt) if clip.prompt else None)


def _add_scores(batch: Sequence[_Work], elsewhere: Sequence[Future[list[ScoredClip]]]) -> None:
    """Wait for the scores of rewards elsewhere."""
    for future in elsewhere:
        for work, scored in zip(batch, future.result(), strict=True):
            work.scores |= scored.scores
            work.timings |= scored.timings


def _ask(weighted: WeightedReward, clips: list[Clip], inputs: list[RewardInputs]) -> list[object]:
    """One result per clip. If a batch fails as a whole, its clips are scored one by one, so that the others count."""
    try:
        answers: list[object] = list(weighted.reward.score_batch(clips, inputs))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - returned, to become the reason
        if len(clips) == 1:
            return [error]
        log.warning("batch failed; scoring its clips one by one", reward=weighted.name, stack=_traceback(error))
    else:
        if len(answers) != len(clips):
            raise PluginError(
                f"Reward {weighted.name!r} returned {len(answers)} scores for {len(clips)} clips. "
                "score_batch must return one entry per clip, in order."
            )
        return answers
    return [_ask(weighted, [clip], [known])[0] for clip, known in zip(clips, inputs, strict=True)]


def _to_score(answer: object, weighted: WeightedReward, clip: Clip) -> Score:
    """A reward's answer as a score; an exception becomes NaN with its reason."""
    if isinstance(answer, Score):
        return answer
    if isinstance(answer, UserError):
        raise answer
    if isinstance(answer, ScoreUnavailable):
        reason = str(_without_frames(answer)) or f"reward {weighted.name!r} gave no reason"
        return Score.unavailable(reason, applicable=not isinstance(answer, ScoreNotApplicable))
    if isinstance(answer, Exception):
        log.warning("reward failed", reward=weighted.name, clip=clip.name, stack=_traceback(answer))
        return Score.unavailable(describe_exception(_without_frames(answer)))
    number = as_number(answer)
    if number is None:
        return Score.unavailable(f"reward {weighted.name!r} returned {shorten(answer)}; a score is a float or a Score")
    if not math.isfinite(number):
        return Score.unavailable(f"reward {weighted.name!r} returned {number!r} without a reason")
    return Score(number)


def _traceback(error: Exception) -> str:
    """The traceback as text. structlog's own rendering prints every local tensor, which takes seconds a failure."""
    return "".join(traceback.format_exception(error)).rstrip()


def _without_frames(error: E) -> E:
    """The exception without its traceback, which would keep clips and reconstructions alive in a reference cycle."""
    linked: BaseException | None = error
    while linked is not None:
        linked.__traceback__ = None
        linked = linked.__cause__ or linked.__context__
    return error
