"""Prompts to videos: the one path that generation, evaluation and rollouts share.

A batch of prompts is prepared (initial noise, encoded text), sampled (as videos, or as groups that branch from a shared
start) and decoded. The three steps are separate, because training measures, records and repeats them separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from worldr1_core.backbone import Backbone, Conditioning, LatentGeometry, Rollout
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest
from worldr1_core.policy import PolicyScheduler
from worldr1_core.rollout import check_injections, rollout_groups, rollout_videos
from worldr1_core.video import Video

MAX_OVERSHOOT = 0.25
"""How far decoded values may leave [0, 1] and still be clipped to it; beyond, the decoder has another range."""


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """One video to make.

    Attributes:
        prompt: Text; its camera words command the path if no trajectory is given.
        seed: Seed of the initial noise.
        trajectory: Commanded path with one pose per frame, instead of the prompt's.
    """

    prompt: str
    seed: int = 0
    trajectory: CameraTrajectory | None = None


@dataclass(frozen=True, slots=True)
class GeneratedVideo:
    """A video with its request.

    Attributes:
        request: What was asked for.
        video: Frames `(T, 3, H, W)`, RGB in [0, 1].
        commanded: The camera path that the request commands, or `None`.
    """

    request: VideoRequest
    video: Video
    commanded: CameraTrajectory | None

    def as_clip(self, name: str, reference: Video | None = None) -> Clip:
        """The video as a clip to score; the commanded path is its target."""
        return Clip(self.video, self.request.prompt, self.commanded, name=name, reference=reference)


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """P prompts, ready to be sampled.

    Attributes:
        requests: What is asked for.
        noises: Initial noise of each prompt.
        conditioning: The encoded prompts.
    """

    requests: tuple[VideoRequest, ...]
    noises: tuple[InitialNoise, ...]
    conditioning: Conditioning

    def __len__(self) -> int:
        return len(self.requests)


def commanded_path(request: VideoRequest, geometry: LatentGeometry) -> CameraTrajectory | None:
    """The path that the request's trajectory or the camera words of its prompt command.

    Raises:
        TrajectoryError: The video has too few frames for the moves.
        UserError: The trajectory has another number of poses than the video has frames.
    """
    if request.trajectory is None:
        size = (geometry.video_height, geometry.video_width)
        return trajectory_from_prompt(request.prompt, geometry.video_frames, size)
    if request.trajectory.num_frames != geometry.video_frames:
        raise UserError(
            f"The trajectory has {request.trajectory.num_frames} poses, the video {geometry.video_frames} frames. "
            "Give one pose per frame."
        )
    return request.trajectory


def call_directly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function as it is; see `VideoPipeline.call`."""
    return function(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class VideoPipeline:
    """Makes videos with a backbone, from the noise of a conditioner.

    A video depends on its own request alone: neither on the others nor, except for rounding, on the batch size.

    Attributes:
        backbone: Text-to-video model.
        num_inference_steps: Steps of the full schedule.
        scheduler: Policy scheduler, made by a sampler from the backbone's `base_scheduler`; without one, the backbone's
            own scheduler samples, and neither groups nor stepwise injection are possible.
        conditioner: Draws the initial noise; plain Gaussian noise if left out.
        call: Calls a function that runs the denoisers; training passes one that sets mixed precision and gathers
            sharded weights.
    """

    backbone: Backbone
    num_inference_steps: int
    scheduler: PolicyScheduler | None = None
    conditioner: NoiseConditioner = field(default_factory=GaussianNoise)
    call: Callable[..., Any] = call_directly

    def with_noise(self, conditioner: NoiseConditioner) -> VideoPipeline:
        """The same pipeline with another initial noise."""
        return replace(self, conditioner=conditioner)

    def generate(
        self, requests: Sequence[VideoRequest], *, batch_size: int = 1, fps: float | None = None
    ) -> Iterator[GeneratedVideo]:
        """Generate videos, in order, with the deterministic sampler.

        Args:
            requests: Prompts, seeds and paths; every commanded path is checked before the first video is made.
            batch_size: Videos that are denoised together, >= 1.
            fps: Frame rate that the videos state, instead of the backbone's.

        Raises:
            UserError: A request does not fit the model.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, received {batch_size!r}.")
        for request in requests:
            commanded_path(request, self.backbone.geometry)
        for start in range(0, len(requests), batch_size):
            batch = self.prepare(requests[start : start + batch_size])
            yield from self.decode(batch, self.sample(batch).latents, fps=fps)

    def prepare(self, requests: Sequence[VideoRequest]) -> PreparedBatch:
        """Draw the initial noise of every request and encode the prompts.

        Raises:
            TrajectoryError: A commanded path does not fit the video.
            UserError: The noise is injected between steps, and there is no policy scheduler to do so.
        """
        noises = tuple(self.conditioner.initial_noise(self._noise_request(request)) for request in requests)
        check_injections(noises, self.scheduler)  # before the weights are loaded
        with torch.no_grad():
            conditioning = self.backbone.encode([request.prompt for request in requests])
        return PreparedBatch(tuple(requests), noises, conditioning)

    def sample(self, batch: PreparedBatch, *, record: bool = False) -> Rollout:
        """One video per prompt with the deterministic sampler: latents `(P, C, T, H, W)`.

        Args:
            batch: P prompts.
            record: Whether to keep every step; needs a policy scheduler.
        """
        with torch.no_grad():
            rollout: Rollout = self.call(
                rollout_videos,
                self.backbone,
                self.scheduler,
                batch.conditioning,
                batch.noises,
                num_inference_steps=self.num_inference_steps,
                record=record,
            )
        return rollout

    def sample_groups(
        self, batch: PreparedBatch, *, window: tuple[int, int], generators: Sequence[Generator]
    ) -> Rollout:
        """A group of videos per prompt that differ by the stochastic steps of a window, which are recorded.

        Args:
            batch: P prompts.
            window: Stochastic steps `[begin, end)`.
            generators: One per video, prompt by prompt; as many for every prompt.

        Returns:
            Latents `(P x G, C, T, H, W)`, prompt by prompt, and the recorded steps.

        Raises:
            UserError: There is no policy scheduler, or counts or window do not fit.
        """
        if self.scheduler is None:
            raise UserError("Rollouts need a policy scheduler, received None. Make one with a sampler.")
        with torch.no_grad():
            rollout: Rollout = self.call(
                rollout_groups,
                self.backbone,
                self.scheduler,
                batch.conditioning,
                batch.noises,
                num_inference_steps=self.num_inference_steps,
                window=window,
                group_size=len(generators) // len(batch),
                generators=generators,
            )
        return rollout

    def decode(self, batch: PreparedBatch, latents: Tensor, *, fps: float | None = None) -> list[GeneratedVideo]:
        """Decode sampled latents.

        Args:
            batch: The P prompts that were sampled.
            latents: `(P x G, C, T, H, W)`, prompt by prompt, as `sample` (G = 1) and `sample_groups` return them.
            fps: Frame rate that the videos state, instead of the backbone's.

        Raises:
            VideoError: The decoded values are not finite, or far from [0, 1].
        """
        group_size = len(latents) // len(batch)
        with torch.no_grad():
            frames = self.backbone.decode(latents)
        assert frames.shape[1] == self.backbone.geometry.video_frames, "the backbone decodes what its geometry says"
        rate = self.backbone.fps if fps is None else fps
        commanded = [self._target(*pair) for pair in zip(batch.requests, batch.noises, strict=True)]
        return [
            GeneratedVideo(batch.requests[i // group_size], to_video(frames[i], rate), commanded[i // group_size])
            for i in range(len(latents))
        ]

    def _noise_request(self, request: VideoRequest) -> NoiseRequest:
        return NoiseRequest(self.backbone.geometry, request.prompt, request.seed, request.trajectory)

    def _target(self, request: VideoRequest, noise: InitialNoise) -> CameraTrajectory | None:
        """Commanded path of a video: the request's own, else the noise's, which a conditioner's options may name."""
        if request.trajectory is None and noise.trajectory is not None:
            return noise.trajectory
        return commanded_path(request, self.backbone.geometry)


def to_video(frames: Tensor, fps: float) -> Video:
    """Decoded frames as a video; values that leave [0, 1] a little are clipped.

    Args:
        frames: `(T, 3, H, W)` float32.
        fps: Frames per second.

    Raises:
        VideoError: Values are not finite, or leave [0, 1] by more than `MAX_OVERSHOOT`.
    """
    low, high = (float(extreme) for extreme in torch.aminmax(frames))
    if low >= -MAX_OVERSHOOT and high <= 1 + MAX_OVERSHOOT:
        frames = frames.clamp(0, 1)
    return Video(frames, fps=fps)
