"""Noise added to finished latents at the levels of a schedule, and the prediction target of the model.

A noise level s of a flow model stands for (1 - s) data + s noise. A cumulative product a of a diffusion model stands
for sqrt(a) data + sqrt(1 - a) noise. The direction of the schedule tells the two apart. The prediction type of the
model (velocity, v, noise or data) need not be known: the deterministic step is linear in the model's output, and the
target is computed from it.
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
    """Return the factors of data and noise at a noise level.

    Args:
        point: Any step of the schedule that the level belongs to.
        noise_level: Noise level in the unit of the schedule.
    """
    if _is_flow(point):
        return 1 - noise_level, noise_level
    return math.sqrt(noise_level), math.sqrt(1 - noise_level)


def noise_share(point: SchedulePoint) -> float:
    """Return noise / (data + noise) of the factors before a step, in [0, 1]; equal to sigma for flow models."""
    signal, spread = noise_scales(point, point.noise_level)
    return spread / (signal + spread)


@dataclass(frozen=True, slots=True)
class NoisedLatents:
    """Latents with noise added at the level of a recorded step, and the prediction target of the model.

    Attributes:
        step: The recorded step.
        sample: `(b, ...)` float32 noised latents; pass them to `Policy.predict` with `step`.
        target: `(b, ...)` model output from which the scheduler predicts exactly the latents; noise minus latents for
            flow models.
        data_scale: Change of the predicted latents per unit of the output; minus the noise level for flow models.
        noise_share: Result of `noise_share` for the step.
    """

    step: PolicyStep
    sample: Tensor
    target: Tensor
    data_scale: float
    noise_share: float


def add_noise(scheduler: PolicyScheduler, step: PolicyStep, latents: Tensor, noise: Tensor) -> NoisedLatents:
    """Add noise to latents at the level of a recorded step.

    Args:
        scheduler: Policy scheduler that the step belongs to; its schedule need not be set.
        step: Recorded step of b videos.
        latents: `(b, ...)` finished latents of the same videos in the pipeline's layout.
        noise: `(b, ...)` standard normal noise.

    Raises:
        UserError: The predicted latents do not depend on the model's output at this step.
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
    """Add fresh noise to the finished videos of a micro-batch, at the level of one random step.

    Args:
        scheduler: See `add_noise`.
        batch: Micro-batch with latents.
        steps: Range `[begin, end)` of recorded steps from which the step is drawn.
        random: Generator of the step and the noise.
    """
    index = int(torch.randint(*steps, (1,), generator=random))
    noise = torch.randn(batch.latents.shape, generator=random)
    return add_noise(scheduler, batch.step(index), batch.latents, noise.to(batch.latents.device))


def output_factor(scheduler: PolicyScheduler, point: SchedulePoint) -> float:
    """Return the change of the sample after the deterministic step per unit of the model's output.

    Raises:
        UserError: The change is 0 or not finite.
    """
    factor = float(scheduler.ode_step(point, torch.zeros(1, 1), torch.ones(1, 1)))
    if factor == 0 or not math.isfinite(factor):
        raise UserError(
            f"Step {point.index} of the schedule cannot be used: its factor of the model output is {factor}, expected "
            "a finite number other than 0. Use another noise level."
        )
    return factor


def _is_flow(point: SchedulePoint) -> bool:
    """Whether noise levels decrease from noise to data, as in flow models; in diffusion models they increase."""
    return point.noise_level > point.next_level
