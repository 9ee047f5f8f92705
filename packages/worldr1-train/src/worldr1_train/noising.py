"""Noise added to finished latents at the levels of a schedule, and what the model has to predict there.

A noise level s of a flow model means (1 - s) data + s noise, a cumulative product a of a diffusion model means
sqrt(a) data + sqrt(1 - a) noise. Which of them a schedule has follows from its direction; what the model predicts
(velocity, v, noise or data) follows from the deterministic step, which is linear in the model's output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_core.objective import UpdateBatch
from worldr1_core.policy import PolicyScheduler
from worldr1_core.policy_step import PolicyStep, SchedulePoint


def noise_scales(point: SchedulePoint, noise_level: float) -> tuple[float, float]:
    """Factors of data and noise at a noise level.

    Args:
        point: Any step of the schedule that the level belongs to.
        noise_level: In the schedule's own unit.
    """
    if _is_flow(point):
        return 1 - noise_level, noise_level
    return math.sqrt(noise_level), math.sqrt(1 - noise_level)


def noise_share(point: SchedulePoint) -> float:
    """Noise over data plus noise before a step, in [0, 1]; sigma for flow models."""
    signal, spread = noise_scales(point, point.noise_level)
    return spread / (signal + spread)


@dataclass(frozen=True, slots=True)
class NoisedLatents:
    """Latents with noise at the level of a recorded step, and the output that a perfect model would give.

    Attributes:
        step: The recorded step.
        sample: `(b, ...)` float32 noised latents; pass them to `Policy.predict` with `step`.
        target: `(b, ...)` output from which the scheduler predicts the latents themselves; noise minus latents for
            flow models.
        data_scale: Change of the predicted latents per unit of the output; minus the noise level for flow models.
        noise_share: See `noise_share`.
    """

    step: PolicyStep
    sample: Tensor
    target: Tensor
    data_scale: float
    noise_share: float


def add_noise(scheduler: PolicyScheduler, step: PolicyStep, latents: Tensor, noise: Tensor) -> NoisedLatents:
    """Noise latents at the level of a recorded step.

    Args:
        scheduler: Policy scheduler that the step belongs to; its schedule need not be set.
        step: Recorded step of b videos.
        latents: `(b, ...)` finished latents of the same videos in the pipeline's layout.
        noise: `(b, ...)` standard normal.

    Raises:
        UserError: The prediction of the latents does not depend on the model's output at this step.
    """
    point, latents = step.point, latents.float()
    signal, spread = noise_scales(point, point.noise_level)
    sample = signal * latents + spread * noise
    to_data = replace(point, next_level=0.0 if _is_flow(point) else 1.0)
    scale = output_factor(scheduler, to_data)
    target = (latents - scheduler.ode_step(to_data, sample, torch.zeros_like(sample))) / scale
    return NoisedLatents(step, sample, target, scale, noise_share(point))


def draw_noised(
    scheduler: PolicyScheduler, batch: UpdateBatch, steps: tuple[int, int], random: torch.Generator | None
) -> NoisedLatents:
    """The finished videos of a micro-batch with fresh noise at the level of one random step.

    Args:
        scheduler: See `add_noise`.
        batch: Micro-batch with latents.
        steps: Recorded steps `[begin, end)` that the step is drawn from.
        random: Draws the step and then the noise.
    """
    index = int(torch.randint(*steps, (1,), generator=random))
    noise = torch.randn(batch.latents.shape, generator=random)
    return add_noise(scheduler, batch.step(index), batch.latents, noise.to(batch.latents.device))


def output_factor(scheduler: PolicyScheduler, point: SchedulePoint) -> float:
    """Change of the sample after the deterministic step per unit of the model's output.

    Raises:
        UserError: It is 0 or not finite.
    """
    factor = float(scheduler.ode_step(point, torch.zeros(1, 1), torch.ones(1, 1)))
    if factor == 0 or not math.isfinite(factor):
        raise UserError(
            f"Step {point.index} of the schedule does not depend on the model output. Take another noise level."
        )
    return factor


def _is_flow(point: SchedulePoint) -> bool:
    """Whether levels fall from noise to data, as in flow models; in diffusion models they rise."""
    return point.noise_level > point.next_level
