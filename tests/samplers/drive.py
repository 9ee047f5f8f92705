"""Runs policies as a pipeline would, and a Gaussian target whose denoiser is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from worldr1_core.policy import PolicyRun


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def drive(scheduler, latents, denoiser, *, num_steps=10, run=None, between=None, **schedule):
    """Final float32 latents. `denoiser(sample, timestep, scheduler)`; `between(sample)` is what the pipeline does."""
    scheduler.run = PolicyRun() if run is None else run
    scheduler.set_timesteps(num_steps, **schedule)
    scheduler.set_begin_index(0)
    sample = latents
    for timestep in scheduler.timesteps:
        sample = scheduler.step(denoiser(sample, timestep, scheduler), timestep, sample, return_dict=False)[0]
        sample = sample if between is None else between(sample)
    return scheduler.run.final


def wavy(sample, timestep, scheduler):
    """Some model."""
    return 0.5 * torch.sin(2 * sample.float()) - 0.3 + 1e-4 * float(timestep)


@dataclass(frozen=True)
class Gaussian:
    """Data N(mean, std^2), seen through x = a x0 + b x1 with x1 ~ N(0, 1)."""

    mean: float = 1.5
    std: float = 0.5

    def expectations(self, x, a, b):
        """E[x0 | x] and E[x1 | x]."""
        k = (x - a * self.mean) / (a**2 * self.std**2 + b**2)
        return self.mean + a * self.std**2 * k, b * k

    def velocity(self, x, s):
        """E[x1 - x0 | x] of a flow model at noise level s."""
        data, noise = self.expectations(x, 1 - s, s)
        return noise - data

    def v_prediction(self, x, alpha):
        """E[sqrt(alpha) x1 - sqrt(1 - alpha) x0 | x] of a diffusion model."""
        data, noise = self.expectations(x, alpha**0.5, (1 - alpha) ** 0.5)
        return alpha**0.5 * noise - (1 - alpha) ** 0.5 * data

    def flow(self, sample, timestep, scheduler):
        """A flow model's denoiser for `drive`; the level comes from the schedule that is under test."""
        return self.velocity(sample, scheduler.point(scheduler.step_index).noise_level)

    def diffusion(self, sample, timestep, scheduler):
        """A v-prediction model's denoiser for `drive`."""
        return self.v_prediction(sample, scheduler.point(scheduler.step_index).noise_level)
