"""Pretraining loss of the policy on real clips, at fixed noise levels.

The loss increases if a policy leaves the distribution of its pretraining data (with stripes or flat textures, say),
even if its rewards rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from worldr1_core.backbone import Backbone
from worldr1_core.errors import UserError
from worldr1_core.pipeline import VideoPipeline
from worldr1_core.policy import PolicyRun, PolicyScheduler
from worldr1_core.policy_step import SchedulePoint
from worldr1_core.seeding import generator
from worldr1_train.evaluation_videos import EvaluationVideos, even_share
from worldr1_train.held_out_section import FLOW_MATCHING_LOSS
from worldr1_train.noising import noise_scales, noise_share, output_factor
from worldr1_train.reference_clips import ReferenceClip


@dataclass(frozen=True, slots=True)
class FlowMatchingLoss:
    """Mean squared error of the model output on noised real clips, one value per clip; see `prediction_errors`.

    Attributes:
        clips: Real clips with prompts.
        noise_levels: Noise levels sigma in (0, 1); the errors are averaged over them.
        batch_size: Clips denoised together.
    """

    name: ClassVar[str] = FLOW_MATCHING_LOSS
    clips: Sequence[ReferenceClip]
    noise_levels: Sequence[float]
    batch_size: int
    _latents: dict[int, Tensor] = field(default_factory=dict, repr=False)

    def labels(self, videos: EvaluationVideos) -> list[str]:
        """Return the name of every clip."""
        return [clip.name for clip in self.clips]

    @torch.no_grad()
    def measure(self, videos: EvaluationVideos, *, rank: int, num_processes: int) -> dict[int, float]:
        """Measure the clips of this process; every process calls the denoisers equally often."""
        own = even_share(len(self.clips), rank, num_processes)
        found: dict[int, float] = {}
        for start in range(0, len(own), self.batch_size):
            indices = own[start : start + self.batch_size]
            losses = self._losses(videos, indices)
            found.update(zip(indices, losses, strict=True))
        return found

    def _losses(self, videos: EvaluationVideos, indices: Sequence[int]) -> list[float]:
        backbone = videos.pipeline.backbone
        latents = torch.stack([self._encoded(backbone, index) for index in indices])
        prompts = [self.clips[index].prompt for index in indices]
        losses = []
        for level in self.noise_levels:
            noise = torch.stack(
                [
                    torch.randn(latents.shape[1:], generator=generator(videos.seed, self.name, index, str(level)))
                    for index in indices
                ]
            )
            losses.append(prediction_errors(videos.pipeline, prompts, latents, noise, level))
        return [float(value) for value in torch.stack(losses).mean(0)]

    def _encoded(self, backbone: Backbone, index: int) -> Tensor:
        """Return the latents `(C, T, H, W)` of a clip, on the CPU; they are encoded once and cached."""
        if index not in self._latents:
            self._latents[index] = backbone.encode_video(self.clips[index].read()[None])[0].cpu()
        return self._latents[index]


def prediction_errors(
    pipeline: VideoPipeline, prompts: Sequence[str], latents: Tensor, noise: Tensor, level: float
) -> Tensor:
    """Compute the mean squared error of the guided model output at one noise level.

    The model output is the input of the scheduler step: the velocity `noise - data` for flow models; v, noise or data
    for diffusion models. The step is linear in it, so the error of the output is the error of the deterministic step,
    divided by the factor of the output in that step. The prediction type need not be known.

    Args:
        pipeline: Pipeline with a policy scheduler.
        prompts: B prompts.
        latents: `(B, C, T, H, W)` normalised latents of real clips, padding included.
        noise: `(B, C, T, H, W)` standard normal noise.
        level: Noise level sigma = noise / (signal + noise) in (0, 1); the nearest level of the schedule is used.

    Returns:
        `(B,)` float32, averaged over channels, frames without padding, and spatial positions.

    Raises:
        UserError: The pipeline has no policy scheduler, or its step does not depend on the model output.
    """
    scheduler, backbone = pipeline.scheduler, pipeline.backbone
    if scheduler is None:
        raise UserError("The loss on reference clips needs a policy scheduler, received None. Name a sampler.")
    conditioning = backbone.encode(list(prompts))

    def run(sample: Tensor, index: int) -> Tensor:
        found: Tensor = pipeline.call(
            backbone.sample,
            conditioning,
            sample,
            num_inference_steps=pipeline.num_inference_steps,
            scheduler=scheduler,
            run=PolicyRun(segment=(index, index + 1)),
        ).latents
        return found

    run(noise, 0)  # sets the schedule, which may depend on the size of the latents
    point = _nearest_point(scheduler, level)
    before, after = (noise_scales(point, value) for value in (point.noise_level, point.next_level))
    stepped = run(before[0] * latents + before[1] * noise, point.index).to(latents)
    factor = output_factor(scheduler, point)
    error = (stepped - (after[0] * latents + after[1] * noise)) / factor
    return error[:, :, backbone.geometry.leading_padding :].square().flatten(1).mean(1)


def _nearest_point(scheduler: PolicyScheduler, level: float) -> SchedulePoint:
    points = [scheduler.point(index) for index in range(scheduler.num_steps)]
    return min(points, key=lambda point: abs(noise_share(point) - level))
