"""`cps`: coefficients-preserving sampling of flow models.

x_s' = (1 - s') x0 + s' cos(eta pi / 2) x1 + s' sin(eta pi / 2) noise, with the predicted data x0 = x - s v and noise
x1 = x + (1 - s) v. The squares of the noise's coefficients add up to s'^2, so that a sample has exactly the noise that
the model expects at s' (Wang and Yu, "Coefficients-Preserving Sampling for Reinforcement Learning with Flow Matching",
arXiv 2509.05952; the same formula stands in the authors' release, IamCreateAI/FlowCPS).
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field
from torch import Tensor

from worldr1_backbones.samplers.flow_base import FlowPolicyScheduler
from worldr1_core.policy import SchedulePoint, Transition
from worldr1_core.sampler import Sampler, SamplerConfig


class CPSScheduler(FlowPolicyScheduler):
    """Policy of `cps`; `eta` in (0, 1] is the share of the angle between old and fresh noise."""

    eta: float = 0.7

    def transition(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Transition:
        """The Gaussian of the module's formula; its std is 0 where s' is."""
        s, s_next, angle = point.noise_level, point.next_level, self.eta * math.pi / 2
        velocity = self.velocity(model_output)
        data, noise = sample - s * velocity, sample + (1 - s) * velocity
        return Transition((1 - s_next) * data + s_next * math.cos(angle) * noise, s_next * math.sin(angle))


class CPSSampler(Sampler):
    """Coefficients-preserving sampling of flow models: no excess noise, however few the steps."""

    stochastic_last_step = False

    class Config(SamplerConfig):
        """Options of `cps`."""

        eta: float = Field(
            0.7, gt=0, le=1, description="Share of fresh noise: 0 would be the ODE, 1 replaces all the noise."
        )

    config: Config

    def make_scheduler(self, base: Any) -> CPSScheduler:
        """A policy with the schedule of `base`; see `FlowPolicyScheduler.from_base`."""
        scheduler = CPSScheduler.from_base(base)
        scheduler.eta = self.config.eta
        return scheduler
