"""`flow-sde`: the reverse-time SDE with the marginals of the flow's ODE.

mean = x (1 + sigma^2 / (2 s) dt) + v (1 + sigma^2 (1 - s) / (2 s)) dt and std = sigma sqrt(-dt), dt = s' - s < 0
(Flow-GRPO, arXiv 2505.05470, equation 9; Euler-Maruyama). Any sigma(s) has the same
marginals as the steps become small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from worldr1_backbones.samplers.flow_base import FlowPolicyScheduler
from worldr1_core.policy import SchedulePoint, Transition
from worldr1_core.sampler import Sampler, SamplerConfig

_PURE_NOISE = 1 - 1e-4


@dataclass(frozen=True, slots=True)
class FlowGRPORule:
    """sigma = eta sqrt(s / (1 - s)); at pure noise 1 - s is taken after the first step, which it would divide by.

    Attributes:
        eta: Strength of the noise; sqrt(2) is as much as ancestral sampling (DDPM) has.
    """

    eta: float = 0.7

    def __call__(self, point: SchedulePoint) -> float:
        """Sigma at a point of the schedule."""
        # Wan's UniPC schedule begins at 1 - 1e-6, not at 1.
        noise_free = 1 - (point.first_step_level if point.noise_level > _PURE_NOISE else point.noise_level)
        return self.eta * math.sqrt(point.noise_level / noise_free)


@dataclass(frozen=True, slots=True)
class WorldR1Rule:
    """sigma = sigma_min + (sigma_max - sigma_min) s, as World-R1's release has it for Wan.

    Attributes:
        sigma_min: Value at data; the release takes the schedule's last sigma, 0.
        sigma_max: Value at pure noise; the release takes the schedule's first sigma, 1.
    """

    sigma_min: float = 0.0
    sigma_max: float = 1.0

    def __call__(self, point: SchedulePoint) -> float:
        """Sigma at a point of the schedule."""
        return self.sigma_min + (self.sigma_max - self.sigma_min) * point.noise_level


class FlowSDEScheduler(FlowPolicyScheduler):
    """Policy of `flow-sde`; `sigma_rule` gives sigma(s)."""

    sigma_rule: FlowGRPORule | WorldR1Rule = FlowGRPORule()

    def transition(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Transition:
        """Euler-Maruyama's Gaussian; see the module."""
        sigma, s, dt = self.sigma_rule(point), point.noise_level, point.next_level - point.noise_level
        drift = sigma**2 / (2 * s)
        mean = sample * (1 + drift * dt) + self.velocity(model_output) * ((1 + drift * (1 - s)) * dt)
        return Transition(mean, sigma * math.sqrt(point.noise_level - point.next_level))


class FlowSDESampler(Sampler):
    """SDE sampling of flow models (Flow-GRPO) with the noise strength of Flow-GRPO or of World-R1's release."""

    class Config(SamplerConfig):
        """Options of `flow-sde`."""

        sigma_rule: Literal["flow-grpo", "world-r1"] = Field(
            "flow-grpo",
            description="How strong the noise is: `flow-grpo` is eta sqrt(s / (1 - s)), `world-r1` is linear in s from "
            "sigma_min to sigma_max.",
        )
        eta: float = Field(0.7, gt=0, le=2, description="Strength of the noise of `flow-grpo`; `world-r1` has none.")
        sigma_min: float = Field(0.0, ge=0, le=5, description="Sigma of `world-r1` at data; `flow-grpo` has none.")
        sigma_max: float = Field(
            1.0, gt=0, le=5, description="Sigma of `world-r1` at pure noise; `flow-grpo` has none."
        )

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.sigma_min > self.sigma_max:
                raise ValueError(f"sigma_min must not exceed sigma_max, received {self.sigma_min} > {self.sigma_max}")
            return self

    config: Config

    def make_scheduler(self, base: Any) -> FlowSDEScheduler:
        """A policy with the schedule of `base`; see `FlowPolicyScheduler.from_base`."""
        scheduler = FlowSDEScheduler.from_base(base)
        options = self.config
        scheduler.sigma_rule = (
            FlowGRPORule(options.eta)
            if options.sigma_rule == "flow-grpo"
            else WorldR1Rule(options.sigma_min, options.sigma_max)
        )
        return scheduler
