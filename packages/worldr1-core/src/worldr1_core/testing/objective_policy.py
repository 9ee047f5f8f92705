"""A stand-in for the model in training: a few hundred parameters, a flow schedule, a decoder and a smooth reward."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from worldr1_core.clip import Clip
from worldr1_core.objective import Denoised
from worldr1_core.policy import PolicyScheduler
from worldr1_core.policy_step import PolicyStep, SchedulePoint, Transition
from worldr1_core.testing.failures import CallFailed

CHANNELS = 4
SHAPE = (CHANNELS, 2, 3, 4)
"""(C, T, h, w) of the latents of one video."""
REWARD = "brightness"


class _FlowSchedule:
    """Evenly spaced noise levels, in place of a diffusers scheduler."""

    def set_timesteps(self, num_inference_steps: int) -> None:
        self.sigmas = torch.linspace(1, 0, num_inference_steps + 1)
        self.timesteps = self.sigmas[:-1] * 1000


class KitScheduler(PolicyScheduler, _FlowSchedule):
    """Euler steps of a flow model, with noise on top of the stochastic ones."""

    def transition(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Transition:
        """See `PolicyScheduler.transition`."""
        return Transition(
            self.ode_step(point, sample, model_output), 0.3 * math.sqrt(point.noise_level - point.next_level)
        )

    def ode_step(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Tensor:
        """See `PolicyScheduler.ode_step`."""
        return sample + (point.next_level - point.noise_level) * model_output

    def noise_levels(self) -> list[float]:
        """See `PolicyScheduler.noise_levels`."""
        return [float(sigma) for sigma in self.sigmas]


class KitModel(nn.Module):
    """Velocity of latents `(b, C, T, h, w)`; `trained` is what training changes, and has no effect before."""

    enter: Tensor
    leave: Tensor

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.register_buffer("enter", torch.randn(8, CHANNELS, generator=random) / 2)
        self.register_buffer("leave", torch.randn(CHANNELS, 8, generator=random) / 4)
        self.trained = nn.Parameter(torch.zeros(CHANNELS, 8))
        self.offset = nn.Parameter(torch.zeros(CHANNELS))

    def forward(self, hidden_states: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Velocity of the same shape.

        Args:
            hidden_states: `(b, C, T, h, w)`.
            timestep: `(b,)` in [0, 1000].
            condition: `(b, 8)` that stands for the prompt.
        """
        entered = torch.einsum("oc,bcthw->bothw", self.enter, hidden_states)
        inner = torch.tanh(entered + (condition + timestep[:, None] / 1000)[:, :, None, None, None])
        moved = torch.einsum("co,bothw->bcthw", self.leave + self.trained, inner)
        return 0.5 * hidden_states + moved + self.offset[:, None, None, None]


class KitPolicy:
    """Implements `worldr1_core.objective.Policy` on the stand-in.

    Args:
        num_steps: Steps of the schedule.
        statistics: Names that `measure` gives values for.
        updates_per_rollout: Optimiser steps of a rollout batch.
    """

    def __init__(self, num_steps: int, statistics: Sequence[str] = (), updates_per_rollout: int = 2) -> None:
        self.model, self.scheduler = KitModel(), KitScheduler()
        self.scheduler.set_timesteps(num_steps)
        self.updates_per_rollout = updates_per_rollout
        self.weights: Mapping[str, float] = {REWARD: 1.0}
        self._statistics = list(statistics)
        self._initial = {name: value.clone() for name, value in self.parameters().items()}

    def predict(self, step: PolicyStep, sample: Tensor | None = None) -> Tensor:
        """See `Policy.predict`."""
        kwargs = step.calls[0].kwargs
        output: Tensor = self.model(**(kwargs if sample is None else {**kwargs, "hidden_states": sample}))
        return output

    def denoise(self, steps: Sequence[PolicyStep], *, last: int | None = None, stop: int | None = None) -> Denoised:
        """See `Policy.denoise`."""
        run = list(steps)[:stop]
        first = 0 if last is None else max(0, len(run) - last)
        sample, samples, outputs = run[0].sample, [], []
        for index, step in enumerate(run):
            with contextlib.nullcontext() if index >= first else torch.no_grad():
                output = self.predict(step, sample)
                if index >= first:
                    samples.append(sample.detach())
                    outputs.append(output)
                sample = self.scheduler.ode_step(step.point, sample, output)
        return Denoised(sample, samples, outputs, first)

    def unpack(self, latents: Tensor) -> Tensor:
        """See `Policy.unpack`."""
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """See `Policy.decode`: linear, then squeezed into [0, 1]."""
        return torch.sigmoid(latents[:, :3]).movedim(1, 2)

    def score_frames(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """See `Policy.score_frames`: the mean of the pixels."""
        return {REWARD: frames.flatten(1).mean(1)}

    def measure(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """See `Policy.measure`: the standard deviation of the pixels, whatever the name."""
        return {name: frames.flatten(1).std(1) for name in self._statistics}

    def reference(self) -> contextlib.AbstractContextManager[None]:
        """See `Policy.reference`."""
        return self.with_parameters(self._initial)

    @contextlib.contextmanager
    def with_parameters(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """See `Policy.with_parameters`."""
        kept = {name: value.clone() for name, value in self.parameters().items()}
        self.set_parameters(values)
        try:
            yield
        finally:
            self.set_parameters(kept)

    def set_parameters(self, values: Mapping[str, Tensor]) -> None:
        """Write values into the trained parameters of the same names."""
        own = self.parameters()
        for name, value in values.items():
            own[name].copy_(value)

    def parameters(self) -> dict[str, Tensor]:
        """See `Policy.parameters`."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def gather(self, values: Tensor) -> Tensor:
        """See `Policy.gather`: there is one process."""
        return values

    def note(self, name: str, values: Tensor, valid: Tensor) -> None:
        """See `Policy.note`.

        Raises:
            CallFailed: There is no value for every item.
        """
        if values.shape[:1] != valid.shape:
            raise CallFailed(
                f"note({name!r}) received values {tuple(values.shape)} for a mask {tuple(valid.shape)}; it needs one "
                "value per item",
                fix="pass values (b,), and batch.valid",
            )

    def show(self, frames: Tensor, clips: Sequence[Clip]) -> None:
        """See `Policy.show`; nothing is kept."""
