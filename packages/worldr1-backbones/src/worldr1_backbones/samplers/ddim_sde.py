"""`ddim-sde`: DDIM with eta, for diffusion models such as CogVideoX.

With a the cumulative product of alphas before the step and a' after it (Song et al., "Denoising Diffusion Implicit
Models", arXiv 2010.02502, formulas 12 and 16):
    mean = sqrt(a') x0 + sqrt(1 - a' - std^2) noise,  std = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a')
where x0 and noise are what the model predicts. eta 0 is the deterministic sampler, eta 1 is DDPM.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from pydantic import Field
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyScheduler, SchedulePoint, Transition
from worldr1_core.sampler import Sampler, SamplerConfig

PREDICTIONS = ("epsilon", "sample", "v_prediction")


class DDIMSDEScheduler(PolicyScheduler, CogVideoXDDIMScheduler):
    """Policy of `ddim-sde`. Levels are cumulative products of alphas: near 0 is noise, 1 is data."""

    eta: float = 0.7

    @classmethod
    def from_base(cls, base: Any) -> DDIMSDEScheduler:
        """A policy with the betas, the spacing and the prediction type of `base`.

        Args:
            base: `CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`, which have the same schedule.

        Raises:
            UserError: It is another scheduler, or predicts noise although the first step is noise alone.
        """
        if not isinstance(base, CogVideoXDDIMScheduler | CogVideoXDPMScheduler):
            prediction = getattr(getattr(base, "config", None), "prediction_type", None)
            raise UserError(
                f"{cls.__name__} needs a CogVideoXDDIMScheduler or CogVideoXDPMScheduler, received "
                f"{type(base).__name__} with prediction_type {prediction!r}. For flow models use flow-sde or cps."
            )
        known = inspect.signature(cls.__init__).parameters
        config = {name: value for name, value in base.config.items() if name in known}
        if config["prediction_type"] not in PREDICTIONS:
            raise UserError(
                f"prediction_type must be one of {list(PREDICTIONS)}, received {config['prediction_type']!r}."
            )
        if config["prediction_type"] == "epsilon" and config["rescale_betas_zero_snr"]:
            raise UserError(
                "With rescale_betas_zero_snr: true the first step holds no data, and a prediction of the noise does "
                "not tell it. Use a base with prediction_type: v_prediction or sample, or without rescaled betas."
            )
        return cls(**config)

    def noise_levels(self) -> list[float]:
        """Cumulative products of alphas at the timesteps, and at the end."""
        return [float(self.alphas_cumprod[t]) for t in self.timesteps] + [float(self.final_alpha_cumprod)]

    def point(self, index: int) -> SchedulePoint:
        """The schedule at step `index`; as in diffusers, a step ends T // n training steps earlier."""
        point = super().point(index)
        earlier = int(point.timestep) - self.config.num_train_timesteps // self.num_inference_steps
        after = self.alphas_cumprod[earlier] if earlier >= 0 else self.final_alpha_cumprod
        return SchedulePoint(index, point.timestep, point.noise_level, float(after), point.first_step_level)

    def transition(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Transition:
        """The Gaussian of formulas 12 and 16; its std is 0 where the step ends at data."""
        return self._ddim(point, sample, model_output, self.eta)

    def ode_step(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Tensor:
        """Deterministic step, with eta 0."""
        return self._ddim(point, sample, model_output, 0.0).mean

    def _ddim(self, point: SchedulePoint, sample: Tensor, output: Tensor, eta: float) -> Transition:
        before, after = point.noise_level, point.next_level
        data, noise = self._predictions(before, sample, output)
        fresh = (1 - after) / (1 - before) * max(0.0, 1 - before / after)
        std = eta * math.sqrt(fresh)
        kept = math.sqrt(max(0.0, 1 - after - std**2))
        return Transition(math.sqrt(after) * data + kept * noise, std)

    def _predictions(self, level: float, sample: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted data and noise; without a division by the level, which may be 0, except for `epsilon`."""
        signal, spread = math.sqrt(level), math.sqrt(1 - level)
        if self.config.prediction_type == "epsilon":
            return (sample - spread * output) / signal, output
        if self.config.prediction_type == "sample":
            return output, (sample - signal * output) / spread
        return signal * sample - spread * output, signal * output + spread * sample


class DDIMSDESampler(Sampler):
    """Stochastic DDIM sampling of diffusion models: CogVideoX with v-prediction, or noise prediction."""

    stochastic_last_step = False

    class Config(SamplerConfig):
        """Options of `ddim-sde`."""

        eta: float = Field(0.7, gt=0, le=1, description="Strength of the noise: 0 would be DDIM, 1 is DDPM.")

    config: Config

    def make_scheduler(self, base: Any) -> DDIMSDEScheduler:
        """A policy with the schedule of `base`; see `DDIMSDEScheduler.from_base`."""
        scheduler = DDIMSDEScheduler.from_base(base)
        scheduler.eta = self.config.eta
        return scheduler
