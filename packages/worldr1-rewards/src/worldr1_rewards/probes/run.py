"""Scoring of a probe's clips, one after the other, with time and memory; a failure gives NaN with a reason."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from worldr1_core.placement import PlacedReward
from worldr1_core.scoring import ClipScores, ScoringEngine
from worldr1_rewards.probes.memory import measure_peak
from worldr1_rewards.probes.source import ProbeSample, Source


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one clip.

    Attributes:
        sample: The clip.
        value: The probed score; NaN if and only if `reason` is given.
        reason: Why there is none.
        parts: Reward name -> score (NaN where there is none), for compositions.
        seconds: Wall time of scoring.
        megabytes: Peak memory of scoring beyond what was in use before, MiB; `None` where it is unknown, as for rewards
            that run in another process.
    """

    sample: ProbeSample
    value: float
    reason: str | None
    parts: Mapping[str, float]
    seconds: float
    megabytes: float | None


Watch = Callable[[Outcome, ClipScores], None]
"""Called with every outcome and the scores that it was taken from."""


def run_probe(scorer: ScoringEngine, source: Source, *, watch: Watch | None = None) -> Iterator[Outcome]:
    """Make and score every clip of a source.

    Args:
        scorer: What is probed: a reward alone, or a composition, of which the total counts.
        source: The clips.
        watch: For pictures.

    Raises:
        UserError: The reward cannot work for any clip (absent weights, extra or judge).
    """
    return run_samples(scorer, source.samples(), watch)


def run_samples(scorer: ScoringEngine, samples: Iterable[ProbeSample], watch: Watch | None = None) -> Iterator[Outcome]:
    """Make and score some of a source's clips; see `run_probe`."""
    for outcome, result in score_samples(scorer, samples):
        if watch is not None:
            watch(outcome, result)
        yield outcome


def score_samples(scorer: ScoringEngine, samples: Iterable[ProbeSample]) -> Iterator[tuple[Outcome, ClipScores]]:
    """Score clips one after the other.

    Args:
        scorer: As for `run_probe`.
        samples: The clips, which are made one at a time.

    Yields:
        A clip's outcome, and the scores that it was taken from.
    """
    rewards = [weighted.reward for weighted in scorer.components.rewards]
    is_here = not any(isinstance(reward, PlacedReward) for reward in rewards)
    for index, sample in enumerate(samples):
        clip = sample.clip(f"clip {index}")
        with measure_peak(rewards[0].device) as peak:
            start = time.perf_counter()
            (result,) = scorer.score([clip])
            seconds = time.perf_counter() - start
        yield _outcome(sample, result, seconds, peak.megabytes if is_here else None), result


def _outcome(sample: ProbeSample, result: ClipScores, seconds: float, megabytes: float | None) -> Outcome:
    parts = {name: score.value for name, score in result.scores.items()}
    value, reason = result.total, result.reasons.get("total")
    if len(parts) == 1:  # a reward alone counts as it is, whatever its weight in a manifest
        ((name, value),) = parts.items()
        reason = result.reasons.get(name)
    elif math.isnan(value):
        reason = _by_reason(result) or reason
    return Outcome(sample, value, reason, parts, seconds, megabytes)


def _by_reason(result: ClipScores) -> str:
    """Every distinct reason once, after the rewards that give it, and without the clip's name."""
    names: dict[str, list[str]] = {}
    for name, why in result.reasons.items():
        if name != "total":
            names.setdefault(why.removeprefix(f"{result.clip.name}: "), []).append(name)
    return "; ".join(f"{', '.join(found)}: {why}" for why, found in names.items())
