"""One rollout batch: groups are sampled, decoded and scored, each chunk scored while the next is sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from worldr1_core.backbone import Backbone, Conditioning, Rollout
from worldr1_core.camera.vocabulary import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest
from worldr1_core.policy import PolicyScheduler
from worldr1_core.policy_step import PolicyStep
from worldr1_core.rollout import rollout_groups
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
        scheduler: Policy scheduler of the backbone.
        num_inference_steps: Steps of the full schedule.
        group_size: G.
        groups_per_chunk: Groups that are denoised together.
        autocast: Makes the context in which denoisers run, the same as in the update.
        asynchronous: Score a chunk in a thread while the next is sampled; the policy does not change meanwhile.
    """

    model: PolicyModel
    scheduler: PolicyScheduler
    num_inference_steps: int
    group_size: int
    groups_per_chunk: int
    autocast: Callable[[], AbstractContextManager[None]]
    asynchronous: bool = True

    @property
    def backbone(self) -> Backbone:
        """The backbone behind the policy."""
        return self.model.backbone

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
        prompts = list(request.prompts[start : start + self.groups_per_chunk])
        groups = range(request.first_group + start, request.first_group + start + len(prompts))
        with _timed(result, "sampling"):
            seeds = [derive_seed(request.seed, "noise", request.rollout_batch, group) for group in groups]
            noises = draw_noises(self.backbone, request.stage.conditioner, prompts, seeds)
            samples = range(groups.start * self.group_size, groups.stop * self.group_size)
            conditioning = self.backbone.encode(prompts)
            rollout = self._roll_out(
                request,
                conditioning,
                noises,
                [generator(request.seed, "rollout", request.rollout_batch, n) for n in samples],
            )
            references = None
            if request.stage.needs_reference:
                with self.model.reference():
                    references = self._roll_out(
                        request,
                        conditioning,
                        noises,
                        [generator(request.seed, "reference", request.rollout_batch, group) for group in groups],
                    )
        result.steps += rollout.steps
        with _timed(result, "decoding"):
            videos = self.backbone.decode(rollout.latents)
            before: list[Video | None] = [None] * len(prompts)
            if references is not None:
                before = [to_video(self.backbone, frames) for frames in self.backbone.decode(references.latents)]
        clips = []
        for i, sample in enumerate(samples):
            group = i // self.group_size
            clip = make_clip(
                self.backbone,
                videos[i],
                prompts[group],
                noises[group],
                f"rollout_batch {request.rollout_batch} sample {sample}",
            )
            clips.append(replace(clip, reference=before[group]))
        return clips

    def _roll_out(
        self,
        request: RolloutRequest,
        conditioning: Conditioning,
        noises: Sequence[InitialNoise],
        generators: Sequence[torch.Generator],
    ) -> Rollout:
        """As many videos a prompt as there are generators for it, by the model as it is."""
        with torch.no_grad(), self.autocast():
            rollout: Rollout = self.model.call_unsharded(
                rollout_groups,
                self.backbone,
                self.scheduler,
                conditioning,
                noises,
                num_inference_steps=self.num_inference_steps,
                window=request.window,
                group_size=len(generators) // len(noises),
                generators=generators,
            )
        return rollout


def draw_noises(
    backbone: Backbone, conditioner: NoiseConditioner, prompts: Sequence[str], seeds: Sequence[int]
) -> list[InitialNoise]:
    """The initial noise of every prompt."""
    geometry = backbone.geometry
    return [
        conditioner.initial_noise(NoiseRequest(geometry, prompt=prompt, seed=seed))
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def make_clip(backbone: Backbone, frames: Tensor, prompt: str, noise: InitialNoise | None, name: str) -> Clip:
    """A decoded video with the path that its prompt commands.

    Args:
        backbone: Gives size and frame rate.
        frames: `(T, 3, H, W)`.
        prompt: Its camera words command the path that no noise carries.
        noise: Initial noise, which may carry the path already.
        name: How messages call it.
    """
    target = None if noise is None else noise.trajectory
    if target is None:
        target = trajectory_from_prompt(prompt, int(frames.shape[0]), (int(frames.shape[2]), int(frames.shape[3])))
    return Clip(to_video(backbone, frames), prompt=prompt, target=target, name=name)


def to_video(backbone: Backbone, frames: Tensor) -> Video:
    """Decoded frames `(T, 3, H, W)`, which may leave [0, 1] a little, as a video."""
    return Video(frames.clamp(0, 1), fps=backbone.fps)


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
