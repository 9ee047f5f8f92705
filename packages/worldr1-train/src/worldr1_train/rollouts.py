"""One rollout batch: groups are sampled, decoded and scored, each chunk scored while the next is sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.pipeline import VideoPipeline, VideoRequest
from worldr1_core.policy_step import PolicyStep
from worldr1_core.scoring import ClipScores
from worldr1_core.seeding import derive_seed, generator
from worldr1_core.video import Video
from worldr1_train.policy_model import PolicyModel
from worldr1_train.stages import Stage


@dataclass(frozen=True, slots=True)
class SampleScore:
    """What one sample earned, without its clip and reconstruction.

    Attributes:
        total: Weighted sum; NaN if there is none.
        values: Reward name -> score, NaN where there is none.
        failures: Reward name -> why it failed; rewards that do not apply are not failures.
        reason: Why there is no total, `None` where there is one.
        spatial_maps: Reward name -> where it was earned, for rewards that say so; see `Score.spatial_map`.
    """

    total: float
    values: dict[str, float]
    failures: dict[str, str]
    reason: str | None = None
    spatial_maps: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_clip(cls, scores: ClipScores) -> SampleScore:
        """The plain numbers of a scored clip."""
        return cls(
            total=scores.total,
            values={name: score.value for name, score in scores.scores.items()},
            failures={
                name: score.reason or "" for name, score in scores.scores.items() if score.reason and score.applicable
            },
            reason=scores.reasons.get("total"),
            spatial_maps={
                name: score.spatial_map for name, score in scores.scores.items() if score.spatial_map is not None
            },
        )

    @property
    def failed(self) -> bool:
        """Whether the sample is left out because something failed."""
        return math.isnan(self.total) and bool(self.failures)


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """What a rollout batch is made from, on one process.

    Attributes:
        seed: Seed of the run.
        rollout_batch: Number of the rollout_batch, from 0.
        stage: Its stage.
        window: Stochastic steps `[begin, end)`.
        prompts: Prompts of this process.
        first_group: Number of its first prompt among all processes' prompts of the rollout_batch.
        keep_clips: How many clips to keep for the logs.
    """

    seed: int
    rollout_batch: int
    stage: Stage
    window: tuple[int, int]
    prompts: Sequence[str]
    first_group: int
    keep_clips: int = 0


@dataclass(slots=True)
class RolloutBatch:
    """The rollouts of one process.

    Attributes:
        steps: Recorded steps: chunk after chunk, within a chunk in the order of the schedule.
        chunk_size: Samples of every chunk.
        scores: One entry a sample, group by group.
        clips: The first clips, for the logs.
        seconds: Phase -> seconds: `sampling`, `decoding`, `rewards` (worked in the background), `waiting` (for them).
    """

    chunk_size: int
    steps: list[PolicyStep] = field(default_factory=list)
    scores: list[SampleScore] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("sampling", "decoding", "rewards", "waiting"), 0.0)
    )


@dataclass(slots=True)
class RolloutCollector:
    """Samples rollout batches.

    What is drawn depends on (seed, rollout batch, index among all processes' samples) alone.

    Attributes:
        model: Policy.
        pipeline: Makes videos with the policy, see `policy_pipeline`; the noise conditioner is the stage's.
        group_size: G.
        groups_per_chunk: Groups that are denoised together.
        asynchronous: Score a chunk in a thread while the next is sampled; the policy does not change meanwhile.
    """

    model: PolicyModel
    pipeline: VideoPipeline
    group_size: int
    groups_per_chunk: int
    asynchronous: bool = True

    def collect(self, request: RolloutRequest) -> RolloutBatch:
        """Sample, decode and score one rollout batch."""
        result = RolloutBatch(chunk_size=self.groups_per_chunk * self.group_size)
        pending: list[Future[tuple[list[SampleScore], float]]] = []
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards") as executor:
            for start in range(0, len(request.prompts), self.groups_per_chunk):
                clips = self._sample_chunk(request, start, result)
                result.clips += clips[: request.keep_clips - len(result.clips)]
                pending.append(executor.submit(_score, request.stage, clips))
                if not self.asynchronous:
                    with _timed(result, "waiting"):
                        pending[-1].result()
            with _timed(result, "waiting"):
                for future in pending:
                    scores, seconds = future.result()
                    result.scores += scores
                    result.seconds["rewards"] += seconds
        return result

    def _sample_chunk(self, request: RolloutRequest, start: int, result: RolloutBatch) -> list[Clip]:
        chunk = _Chunk(request, start, self.groups_per_chunk, self.group_size)
        pipeline = self.pipeline.with_noise(request.stage.conditioner)
        with _timed(result, "sampling"):
            batch = pipeline.prepare(chunk.video_requests())
            rollout = pipeline.sample_groups(batch, window=request.window, generators=chunk.generators())
            references = None
            if request.stage.needs_reference:
                with self.model.reference():
                    references = pipeline.sample_groups(
                        batch, window=request.window, generators=chunk.reference_generators()
                    )
        result.steps += rollout.steps
        with _timed(result, "decoding"):
            videos = pipeline.decode(batch, rollout.latents)
            before: list[Video | None] = [None] * len(batch)
            if references is not None:
                before = [made.video for made in pipeline.decode(batch, references.latents)]
        return [
            made.as_clip(f"rollout_batch {request.rollout_batch} sample {sample}", before[i // self.group_size])
            for i, (sample, made) in enumerate(zip(chunk.samples, videos, strict=True))
        ]


class _Chunk:
    """Groups that are denoised together, and the seeds of their streams.

    Args:
        request: The rollout batch that they belong to.
        start: Their first prompt among the request's.
        num_groups: Groups at most.
        group_size: G.
    """

    def __init__(self, request: RolloutRequest, start: int, num_groups: int, group_size: int) -> None:
        self._request = request
        self._prompts = request.prompts[start : start + num_groups]
        first = request.first_group + start
        self._groups = range(first, first + len(self._prompts))
        self.samples = range(self._groups.start * group_size, self._groups.stop * group_size)

    def video_requests(self) -> list[VideoRequest]:
        """One per group, with the seed of its noise."""
        seed, rollout_batch = self._request.seed, self._request.rollout_batch
        return [
            VideoRequest(prompt, derive_seed(seed, "noise", rollout_batch, group))
            for prompt, group in zip(self._prompts, self._groups, strict=True)
        ]

    def generators(self) -> list[torch.Generator]:
        """Of the stochastic steps, one per sample."""
        return [generator(self._request.seed, "rollout", self._request.rollout_batch, n) for n in self.samples]

    def reference_generators(self) -> list[torch.Generator]:
        """Of the stochastic steps of the model before training, one per group."""
        return [generator(self._request.seed, "reference", self._request.rollout_batch, n) for n in self._groups]


def _score(stage: Stage, clips: list[Clip]) -> tuple[list[SampleScore], float]:
    start = time.perf_counter()
    scores = [SampleScore.from_clip(result) for result in stage.scorer.score(clips, batch_size=len(clips))]
    return scores, time.perf_counter() - start


@contextmanager
def _timed(result: RolloutBatch, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        result.seconds[phase] += time.perf_counter() - start
