"""Prompts to videos: the backbone, noise conditioner and sampler of a manifest put to work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from worldr1_core.backbone import Backbone
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import trajectory_from_prompt
from worldr1_core.compose import build, resolve_device
from worldr1_core.errors import ManifestError, UserError
from worldr1_core.manifest import Manifest, load_manifest, parse_manifest
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest
from worldr1_core.policy import PolicyRun, PolicyScheduler
from worldr1_core.registry import Registry
from worldr1_core.rollout import stack_injections
from worldr1_core.sampler import Sampler
from worldr1_core.video import Video

DEFAULT_MANIFEST = "default.yaml"
NUM_INFERENCE_STEPS = 50  # where the manifest names no sampler (paper, section 3)


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """One video to generate.

    Attributes:
        prompt: Text; its camera words command the path where no trajectory is given.
        seed: Seed of everything random.
        trajectory: Commanded path with one pose a frame, instead of the prompt's.
    """

    prompt: str
    seed: int = 0
    trajectory: CameraTrajectory | None = None


@dataclass(frozen=True, slots=True)
class GeneratedVideo:
    """A video, what it was asked for, and the path that its prompt or trajectory commands (`None` for none)."""

    request: VideoRequest
    video: Video
    commanded: CameraTrajectory | None


def read_generation_manifest(path: Path | None, registry: Registry) -> Manifest:
    """The manifest at `path`, or the shipped default (the embedded tiny world).

    Raises:
        ManifestError: It does not validate.
    """
    if path is not None:
        return load_manifest(path, registry)
    text = resources.files("worldr1_backbones").joinpath(DEFAULT_MANIFEST).read_text(encoding="utf-8")
    return parse_manifest(text, registry, name=f"worldr1_backbones/{DEFAULT_MANIFEST}")


class VideoGenerator:
    """Generates videos with the components of a manifest.

    A video depends on its own request alone: neither on the others nor, but for rounding, on the batch size.

    Args:
        manifest: Names `backbone`, and may name `noise` and `sampler`.
        registry: Where names are looked up.
        num_inference_steps: Instead of the sampler's.

    Raises:
        ManifestError: The manifest names no backbone.
        UserError: A named component cannot be had.
    """

    def __init__(self, manifest: Manifest, registry: Registry, *, num_inference_steps: int | None = None) -> None:
        if manifest.backbone is None:
            raise ManifestError(
                "Generating needs a backbone, and the manifest names none. "
                f"Add `backbone: {{name: …}}`; installed: {registry.names('backbone')}."
            )
        device = resolve_device(manifest.device)
        self.backbone = build(manifest.backbone, "backbone", Backbone, registry, device)
        self.conditioner: NoiseConditioner | None = None
        if manifest.noise is not None:
            self.conditioner = build(manifest.noise, "noise conditioner", NoiseConditioner, registry, device)
        sampler = None if manifest.sampler is None else build(manifest.sampler, "sampler", Sampler, registry, device)
        self._sampler = sampler
        configured = NUM_INFERENCE_STEPS if sampler is None else sampler.config.num_inference_steps
        self.num_inference_steps = configured if num_inference_steps is None else num_inference_steps
        self._scheduler: PolicyScheduler | None = None

    def generate(
        self, requests: Sequence[VideoRequest], *, batch_size: int = 1, fps: float | None = None
    ) -> Iterator[GeneratedVideo]:
        """Generate videos, in order, with the deterministic sampler.

        Args:
            requests: What to generate; every commanded path is checked before the first video is made.
            batch_size: Videos that are denoised together, >= 1.
            fps: Frame rate that the videos state, instead of the backbone's.

        Raises:
            UserError: A request cannot be met.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, received {batch_size!r}.")
        geometry = self.backbone.geometry
        commanded = [self._commanded(request) for request in requests]
        for start in range(0, len(requests), batch_size):
            chunk = requests[start : start + batch_size]
            noises = [self._noise(request) for request in chunk]
            frames = self._denoise([request.prompt for request in chunk], noises)
            assert frames.shape[1] == geometry.video_frames, "the backbone decodes what its geometry says"
            for offset, request in enumerate(chunk):
                video = Video(frames[offset], fps=self.backbone.fps if fps is None else fps)
                yield GeneratedVideo(request, video, commanded[start + offset])

    def _commanded(self, request: VideoRequest) -> CameraTrajectory | None:
        geometry = self.backbone.geometry
        if request.trajectory is None:
            size = (geometry.video_height, geometry.video_width)
            return trajectory_from_prompt(request.prompt, geometry.video_frames, size)
        if request.trajectory.num_frames != geometry.video_frames:
            raise UserError(
                f"The trajectory has {request.trajectory.num_frames} poses, the video {geometry.video_frames} frames. "
                "Give one pose a frame."
            )
        return request.trajectory

    def _noise(self, request: VideoRequest) -> InitialNoise:
        asked = NoiseRequest(self.backbone.geometry, request.prompt, request.seed, request.trajectory)
        if self.conditioner is not None:
            return self.conditioner.initial_noise(asked)
        from worldr1_backbones.noise.gaussian import GaussianNoise

        return GaussianNoise().initial_noise(asked)

    def _denoise(self, prompts: list[str], noises: list[InitialNoise]) -> torch.Tensor:
        delta, weights = stack_injections(noises)
        scheduler = self._policy()
        if delta is not None and scheduler is None:
            raise ManifestError(
                "The noise conditioner adds to the latents between steps, which only a sampler of ours can do. "
                "Add `sampler: {name: …}` to the manifest, or choose another injection."
            )
        rollout = self.backbone.sample(
            self.backbone.encode(prompts),
            torch.stack([noise.latents for noise in noises]),
            num_inference_steps=self.num_inference_steps,
            scheduler=scheduler,
            run=None if scheduler is None else PolicyRun(step_delta=delta, step_weights=weights),
        )
        return self.backbone.decode(rollout.latents)

    def _policy(self) -> PolicyScheduler | None:
        if self._scheduler is None and self._sampler is not None:
            self._scheduler = self._sampler.make_scheduler(self.backbone.base_scheduler)
        return self._scheduler
