"""Shared parts of the flow models' policies: the base scheduler's own schedule, and the Euler step outside the window.

A flow model joins data and noise by x_s = (1 - s) x0 + s x1, x1 ~ N(0, 1), and predicts the velocity v = x1 - x0. Then
x0 = x_s - s v and x1 = x_s + (1 - s) v.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyScheduler, SchedulePoint

P = TypeVar("P", bound="FlowPolicyScheduler")


class _BorrowedSchedule(FlowMatchEulerDiscreteScheduler):
    """A flow-matching scheduler whose timesteps and sigmas may come from another one."""

    source: Any = None

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """Arguments are those of `FlowMatchEulerDiscreteScheduler`."""
        if self.source is None:
            super().set_timesteps(num_inference_steps, device, sigmas, mu, timesteps)
            return
        given = {"num_inference_steps": num_inference_steps, "sigmas": sigmas, "mu": mu, "timesteps": timesteps}
        self.source.set_timesteps(device=device, **{k: v for k, v in given.items() if v is not None})
        self.timesteps, self.sigmas = self.source.timesteps, self.source.sigmas
        self.num_inference_steps = self.source.num_inference_steps


class FlowPolicyScheduler(PolicyScheduler, _BorrowedSchedule):
    """The base of policies for flow models; a subclass gives `transition`."""

    @classmethod
    def from_base(cls: type[P], base: Any) -> P:
        """A policy that runs the schedule of `base`: its shift, dynamic shifting, spacing and inversion.

        Args:
            base: `FlowMatchEulerDiscreteScheduler`, or a multistep scheduler with `use_flow_sigmas` (Wan's
                `UniPCMultistepScheduler`). It is copied.

        Raises:
            UserError: It does not belong to a flow model, or asks for stochastic sampling of its own.
        """
        config = dict(getattr(base, "config", {}))
        if isinstance(base, FlowMatchEulerDiscreteScheduler):
            if config.get("stochastic_sampling"):
                raise UserError(
                    "The base scheduler has stochastic_sampling: true, which is no deterministic sampler to go on from "
                    "outside the window. Set it to false in the scheduler's configuration."
                )
            options = {name: config[name] for name in ("num_train_timesteps", "shift", "invert_sigmas")}
            options |= {name: config[name] for name in _DYNAMIC if config.get(name) is not None}
        elif config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction":
            options = {"num_train_timesteps": config["num_train_timesteps"], "shift": config.get("flow_shift", 1.0)}
            options["use_dynamic_shifting"] = config.get("use_dynamic_shifting", False)
        else:
            raise UserError(
                f"{cls.__name__} needs the scheduler of a flow model: FlowMatchEulerDiscreteScheduler, or one with "
                f"use_flow_sigmas: true and prediction_type: flow_prediction. Received {type(base).__name__} with "
                f"prediction_type {config.get('prediction_type')!r}. For CogVideoX use the sampler ddim-sde."
            )
        made = cls(**options)
        made.source = copy.deepcopy(base)
        return made

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """Arguments are those of `FlowMatchEulerDiscreteScheduler`; see `PolicyScheduler.set_timesteps`."""
        super().set_timesteps(num_inference_steps, device, sigmas, mu, timesteps)
        begin, end = self._bounds()
        self.sigmas = self.sigmas[begin : end + 1]  # pipelines read sigmas[i] beside timesteps[i]

    def noise_levels(self) -> list[float]:
        """Sigmas from noise (1) to data (0), also where the base counts them the other way (Mochi)."""
        sigmas = [float(sigma) for sigma in self.sigmas]
        return [1 - sigma for sigma in sigmas] if self.config.invert_sigmas else sigmas

    def velocity(self, model_output: Tensor) -> Tensor:
        """The velocity x1 - x0; a model with inverted sigmas predicts its negative."""
        return -model_output if self.config.invert_sigmas else model_output

    def ode_step(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Tensor:
        """Euler's step x + (s' - s) v."""
        return sample + (point.next_level - point.noise_level) * self.velocity(model_output)


_DYNAMIC = (
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "shift_terminal",
    "time_shift_type",
)
"""Configuration keys from which pipelines compute `mu`."""
