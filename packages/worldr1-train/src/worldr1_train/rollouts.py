"""Collection of a rollout batch: groups are sampled, decoded and scored, chunks while the next ones are sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from accelerate.utils import gather_object
from torch import Tensor

from worldr1_core.backbone import Rollout
from worldr1_core.clip import Clip
from worldr1_core.objective import RolloutPlan
from worldr1_core.pipeline import PreparedBatch, VideoPipeline, VideoRequest
from worldr1_core.policy_step import PolicyStep
from worldr1_core.scoring import ClipScores
from worldr1_core.seeding import derive_seed, generator
from worldr1_core.tracing import span
from worldr1_core.video import Video
from worldr1_train.background_scoring import BackgroundScoring
from worldr1_train.policy_model import PolicyModel, swapped_parameters
from worldr1_train.stages import Stage


@dataclass(frozen=True, slots=True)
class SampleScore:
    """Scores of one sample, without its clip and reconstruction.

    Attributes:
        total: Weighted sum of the rewards; NaN if it is missing.
        values: Reward name -> score; NaN if it is missing.
        failures: Reward name -> reason of the failure. A reward that does not apply is not a failure.
        reason: Reason why the total is missing, or `None`.
        spatial_maps: Reward name -> spatial map, for rewards that have one; see `Score.spatial_map`.
    """

    total: float
    values: dict[str, float]
    failures: dict[str, str]
    reason: str | None = None
    spatial_maps: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_clip(cls, scores: ClipScores) -> SampleScore:
        """Extract the scores of a scored clip."""
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
        """Whether the sample is left out because a reward failed."""
        return math.isnan(self.total) and bool(self.failures)


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """Inputs of a rollout batch on one process.

    Attributes:
        seed: Seed of the run.
        rollout_batch: Number of the rollout batch, from 0.
        stage: Stage of the rollout batch.
        window: Stochastic steps `[begin, end)`.
        prompts: Prompts of this process.
        first_group: Number of the first of these prompts among the prompts of all processes.
        keep_clips: Number of clips to keep for the logs.
        plan: Rollout plan of the objective.
        parameters: Parameters to sample with; `None` for the trained ones.
    """

    seed: int
    rollout_batch: int
    stage: Stage
    window: tuple[int, int]
    prompts: Sequence[str]
    first_group: int
    keep_clips: int = 0
    plan: RolloutPlan = field(default_factory=lambda: RolloutPlan(steps="window"))
    parameters: Mapping[str, Tensor] | None = None


@dataclass(slots=True)
class RolloutBatch:
    """The rollouts of one process.

    Attributes:
        chunk_size: Samples per chunk.
        steps: Recorded steps, chunk by chunk, in the order of the schedule within a chunk.
        latents: Final latents of every chunk in the pipeline's layout, for plans that record all steps.
        scores: One entry per sample, group by group; empty for plans without scores.
        clips: The first clips, for the logs; all clips for plans without scores.
        num_refilled: Number of videos that were sampled again because their rewards failed.
        seconds: Phase -> seconds: `sampling`, `decoding`, `rewards` (in the background), `waiting` (for the rewards).
    """

    chunk_size: int
    steps: list[PolicyStep] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    scores: list[SampleScore] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    num_refilled: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("sampling", "decoding", "rewards", "waiting"), 0.0)
    )


def _continue() -> None:
    """Let the run go on."""


@dataclass(slots=True)
class RolloutCollector:
    """Samples rollout batches.

    The random numbers of a sample depend only on the seed, the rollout batch and the index of the sample among the
    samples of all processes.

    Attributes:
        model: Policy.
        pipeline: Pipeline that generates videos with the policy, see `policy_pipeline`; the noise conditioner is
            replaced by that of the stage.
        group_size: Videos per group, G.
        groups_per_chunk: Groups that are denoised together.
        asynchronous: Score chunks while others are sampled. The policy does not change meanwhile: a rollout batch is
            returned when all its chunks are scored.
        chunks_ahead: Chunks that may be without scores when the next one is sampled.
        max_refills: How often videos whose rewards failed are sampled again, with other random numbers.
        before_chunk: Called before a chunk is sampled; may raise an error that ends the run.
        while_waiting: Called from time to time while scores are missing; may raise likewise.
    """

    model: PolicyModel
    pipeline: VideoPipeline
    group_size: int
    groups_per_chunk: int
    asynchronous: bool = True
    chunks_ahead: int = 1
    max_refills: int = 0
    before_chunk: Callable[[], None] = _continue
    while_waiting: Callable[[], None] = _continue

    def collect(self, request: RolloutRequest) -> RolloutBatch:
        """Sample, decode and score one rollout batch."""
        result = RolloutBatch(chunk_size=self.groups_per_chunk * self.group_size)
        if not request.plan.scored:
            for start in range(0, len(request.prompts), self.groups_per_chunk):
                result.clips += self._sample_chunk(request, start, result)
            return result
        ahead = self.chunks_ahead if self.asynchronous else 0
        with BackgroundScoring(request.stage.scorer, SampleScore.from_clip, self.while_waiting) as scoring:
            for start in range(0, len(request.prompts), self.groups_per_chunk):
                self.before_chunk()
                clips = self._sample_chunk(request, start, result)
                result.clips += clips[: request.keep_clips - len(result.clips)]
                scoring.submit(clips)
                del clips  # freed when it is scored
                scoring.wait(ahead)
            result.scores = scoring.results()
            result.seconds |= {"rewards": scoring.seconds, "waiting": scoring.waited}
        for attempt in range(1, self.max_refills + 1):
            self._refill(request, result, attempt)
        return result

    def _refill(self, request: RolloutRequest, result: RolloutBatch, attempt: int) -> None:
        """Sample and score failed videos again; with sharding, all processes must sample the same chunks."""
        size = result.chunk_size
        chunks = range(len(result.scores) // size)
        failed = [[row for row in range(size) if result.scores[chunk * size + row].failed] for chunk in chunks]
        anywhere = gather_object([[bool(rows) for rows in failed]])
        for chunk, rows in enumerate(failed):
            if not any(flags[chunk] for flags in anywhere):
                continue
            again = RolloutBatch(chunk_size=size, seconds=result.seconds)
            clips = self._sample_chunk(request, chunk * self.groups_per_chunk, again, attempt)
            if not rows:
                continue
            scores, seconds = _score(request.stage, [clips[row] for row in rows])
            result.seconds["rewards"] += seconds
            result.seconds["waiting"] += seconds
            better = {row: score for row, score in zip(rows, scores, strict=True) if not score.failed}
            if better:
                self._replace_videos(result, chunk, again, list(better))
            for row, score in better.items():
                sample = chunk * size + row
                result.scores[sample] = score
                if sample < len(result.clips):
                    result.clips[sample] = clips[row]

    def _replace_videos(self, result: RolloutBatch, chunk: int, again: RolloutBatch, rows: list[int]) -> None:
        """Replace rows of a chunk by those of the chunk that was sampled again."""
        backbone = self.pipeline.backbone
        first = chunk * len(again.steps)
        for offset, step in enumerate(again.steps):
            result.steps[first + offset] = backbone.replace_rows(result.steps[first + offset], step, rows)
        if again.latents:
            result.latents[chunk][rows] = again.latents[0][rows]
        result.num_refilled += len(rows)

    def _sample_chunk(self, request: RolloutRequest, start: int, result: RolloutBatch, attempt: int = 0) -> list[Clip]:
        chunk = _Chunk(request, start, self.groups_per_chunk, self.group_size, attempt)
        pipeline = self.pipeline.with_noise(request.stage.conditioner)
        with span("sample", samples=[str(sample) for sample in chunk.samples]), _timed(result, "sampling"):
            batch = pipeline.prepare(chunk.video_requests())
            with self._weights(request):
                rollout = _sample(pipeline, batch, request, chunk.generators(), record=True)
            before = None
            if request.stage.needs_reference and request.plan.policy != "reference":
                with self.model.reference():
                    before = _sample(pipeline, batch, request, chunk.reference_generators())
        result.steps += rollout.steps
        if request.plan.steps == "all":
            result.latents.append(pipeline.backbone.to_pipeline(rollout.latents))
        with _timed(result, "decoding"):
            videos = pipeline.decode(batch, rollout.latents)
            references: list[Video | None] = [None] * len(batch)
            if request.plan.policy == "reference":
                references = [made.video for made in videos]
            elif before is not None:
                references = [made.video for made in pipeline.decode(batch, before.latents)]
        per_reference = len(videos) // len(references)
        return [
            made.as_clip(f"rollout_batch {request.rollout_batch} sample {sample}", references[i // per_reference])
            for i, (sample, made) in enumerate(zip(chunk.samples, videos, strict=True))
        ]

    def _weights(self, request: RolloutRequest) -> AbstractContextManager[None]:
        """Return a context manager that gives the model the weights that the plan samples with."""
        if request.plan.policy == "reference":
            return self.model.reference()
        if request.parameters is None:
            return nullcontext()
        return swapped_parameters(self.model.trainable(), dict(request.parameters))


class _Chunk:
    """Groups that are denoised together, and the seeds of their random streams.

    Args:
        request: Request of the rollout batch.
        start: Index of the chunk's first prompt in the request.
        num_groups: Maximum number of groups.
        group_size: Videos per group, G.
        attempt: How often the chunk has been sampled before; each attempt has its own random streams.
    """

    def __init__(self, request: RolloutRequest, start: int, num_groups: int, group_size: int, attempt: int = 0) -> None:
        self._request, self._again = request, (attempt,) if attempt else ()
        self._prompts = request.prompts[start : start + num_groups]
        first = request.first_group + start
        self._groups = range(first, first + len(self._prompts))
        self.samples = range(self._groups.start * group_size, self._groups.stop * group_size)

    def video_requests(self) -> list[VideoRequest]:
        """Return requests with noise seeds: one per group if its videos share their noise, otherwise one per sample."""
        seed, rollout_batch = self._request.seed, self._request.rollout_batch
        if self._request.plan.steps == "window":
            stream, numbers, prompts = "noise", self._groups, list(self._prompts)
            again: tuple[int, ...] = ()  # a refill keeps the noise of the group
        else:
            group_size = len(self.samples) // len(self._groups)
            stream, numbers, again = "sample noise", self.samples, self._again
            prompts = [prompt for prompt in self._prompts for _ in range(group_size)]
        return [
            VideoRequest(prompt, derive_seed(seed, stream, rollout_batch, number, *again))
            for prompt, number in zip(prompts, numbers, strict=True)
        ]

    def generators(self) -> list[torch.Generator]:
        """Return the generators of the stochastic steps, one per sample."""
        seed, rollout_batch = self._request.seed, self._request.rollout_batch
        return [generator(seed, "rollout", rollout_batch, n, *self._again) for n in self.samples]

    def reference_generators(self) -> list[torch.Generator]:
        """Return the generators of the stochastic steps of the model before training, one per group."""
        return [generator(self._request.seed, "reference", self._request.rollout_batch, n) for n in self._groups]


def _sample(
    pipeline: VideoPipeline,
    batch: PreparedBatch,
    request: RolloutRequest,
    generators: Sequence[torch.Generator],
    *,
    record: bool = False,
) -> Rollout:
    """Sample a batch according to the plan: groups that branch in the window, or videos without stochastic steps."""
    if request.plan.steps == "window":
        return pipeline.sample_groups(batch, window=request.window, generators=generators)
    return pipeline.sample(batch, record=record)


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
