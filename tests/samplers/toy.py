"""A scheduler in the manner of diffusers, without diffusers, and the smallest policy over it."""

from __future__ import annotations

import torch
from pydantic import Field

from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyScheduler, Transition
from worldr1_core.sampler import Sampler, SamplerConfig


class ToyScheduler:
    """Euler's rule for a flow model on evenly spaced sigmas."""

    def __init__(self, scale: float = 1000.0):
        self.scale = scale
        self.timesteps = torch.tensor([])

    def set_timesteps(self, num_inference_steps, device=None, sigmas=None):
        self.sigmas = torch.linspace(1, 0, num_inference_steps + 1) if sigmas is None else torch.tensor([*sigmas, 0.0])
        self.timesteps = self.sigmas[:-1] * self.scale


class ToyPolicy(PolicyScheduler, ToyScheduler):
    """x + (s' - s) v, with noise of std `strength` x s'."""

    strength = 0.5

    def noise_levels(self):
        return [float(sigma) for sigma in self.sigmas]

    def ode_step(self, point, sample, model_output):
        return sample + (point.next_level - point.noise_level) * model_output

    def transition(self, point, sample, model_output):
        mean = sample + (point.next_level - point.noise_level) * model_output
        return Transition(mean, self.strength * point.next_level)


class ToySampler(Sampler):
    """Noise on top of Euler's step."""

    stochastic_last_step = False
    policy = ToyPolicy

    class Config(SamplerConfig):
        strength: float = Field(0.5, gt=0, le=1, description="Noise in units of the next sigma.")

    config: Config

    def make_scheduler(self, base):
        if not isinstance(base, ToyScheduler):
            raise UserError(f"Expected a ToyScheduler, received {base!r}.")
        made = self.policy(base.scale)
        made.strength = self.config.strength
        return made
