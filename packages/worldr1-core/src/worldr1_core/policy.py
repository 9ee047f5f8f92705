"""The scheduler as policy: a scheduler of any diffusion pipeline that draws its steps from a known density.

`PolicyScheduler` is mixed into a diffusers scheduler class. Put into an unmodified pipeline, it runs one segment of the
schedule, takes stochastic steps inside a window and deterministic ones elsewhere, and records every stochastic step
with the density it was drawn from. The same density, as a function of a new model output, is what training needs.

Latents and densities are float32 whatever the pipeline's dtype: a pipeline may round its own copy between two steps,
and the scheduler goes on from the exact one.
"""

from __future__ import annotations

import abc
import functools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.policy_step import DenoiserCall, PolicyStep, SchedulePoint, Transition
from worldr1_core.seeding import draw_normal

__all__ = ["DenoiserCall", "PolicyRun", "PolicyScheduler", "PolicyStep", "SchedulePoint", "Transition"]


@dataclass(slots=True)
class PolicyRun:
    """What one call of the pipeline shall do, and what it did.

    Attributes:
        segment: Steps `[begin, end)` of the full schedule to run; all of them if `None`.
        window: Steps `[begin, end)` of the full schedule that are stochastic; none if empty.
        generators: One generator a sample for the stochastic steps.
        initial: `(B, ...)` float32 at the start of the segment, in the pipeline's latent layout: the scheduler goes on
            from it where the pipeline begins with the same values in its own dtype.
        step_delta: `(B, ...)` added to the sample after a step with its weight, mean and std of every sample kept
            (stepwise injection of the noise conditioner); in the pipeline's latent layout.
        step_weights: Weights of `step_delta` after steps 0, 1, ... of the full schedule.
        record: Whether to keep the stochastic steps.
        record_ode: Whether to keep the deterministic steps, with a density of std 0 and log-density 0.
        steps: Recorded steps, filled in.
        calls: Denoiser calls since the last step, filled in by the backbone.
        final: `(B, ...)` float32 after the last step, filled in.
    """

    segment: tuple[int, int] | None = None
    window: tuple[int, int] = (0, 0)
    generators: list[Generator] = field(default_factory=list)
    initial: Tensor | None = None
    step_delta: Tensor | None = None
    step_weights: tuple[float, ...] = ()
    record: bool = False
    record_ode: bool = False
    steps: list[PolicyStep] = field(default_factory=list)
    calls: list[DenoiserCall] = field(default_factory=list)
    final: Tensor | None = None

    def is_stochastic(self, index: int) -> bool:
        """Whether step `index` of the full schedule is drawn."""
        return self.window[0] <= index < self.window[1]

    def is_recorded(self, index: int) -> bool:
        """Whether step `index` of the full schedule is kept."""
        return self.record if self.is_stochastic(index) else self.record_ode

    def inject(self, index: int, sample: Tensor) -> Tensor:
        """Add the weighted delta after step `index`, keeping mean and std of every sample.

        Raises:
            ValueError: `step_delta` has another shape than the sample.
        """
        weight = self.step_weights[index] if index < len(self.step_weights) else 0.0
        if self.step_delta is None or weight == 0.0:
            return sample
        if self.step_delta.shape != sample.shape:
            raise ValueError(
                f"step_delta must have the sample's shape {tuple(sample.shape)}, "
                f"received {tuple(self.step_delta.shape)}."
            )
        moved = sample + weight * self.step_delta.to(sample)
        axes = tuple(range(1, sample.ndim))
        mean, std = sample.mean(axes, keepdim=True), sample.std(axes, keepdim=True)
        new_mean, new_std = moved.mean(axes, keepdim=True), moved.std(axes, keepdim=True)
        return (moved - new_mean) / new_std.clamp(min=1e-12) * std + mean


class PolicyScheduler(abc.ABC):
    """Mixed into a diffusers scheduler, before it: `class FlowSDE(PolicyScheduler, FlowMatchEulerDiscreteScheduler)`.

    A subclass gives `transition` (the density of a stochastic step), `ode_step` (the deterministic one) and
    `noise_levels` (those of the full schedule). `run` is set by the backbone before it calls the pipeline; without one,
    the scheduler is deterministic.

    The std of a transition depends on the point alone. A run whose window holds a step of std 0 is refused by
    `set_timesteps`, before the denoiser is called.
    """

    run: PolicyRun | None = None
    timesteps: Tensor

    _full_timesteps: Tensor
    _noise_levels: list[float]
    _position: int | None = None
    _carried: Tensor | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Pipelines look up in the signature whether `set_timesteps` takes `sigmas`: show the diffusers class's."""
        super().__init_subclass__(**kwargs)
        if "set_timesteps" in cls.__dict__:
            return
        behind = cls.__mro__[cls.__mro__.index(PolicyScheduler) + 1 :]
        described = next((c.__dict__["set_timesteps"] for c in behind if "set_timesteps" in c.__dict__), None)
        if described is not None:

            @functools.wraps(described)
            def set_timesteps(self: Any, *args: Any, **options: Any) -> None:
                super(cls, self).set_timesteps(*args, **options)  # type: ignore[misc]

            cls.set_timesteps = set_timesteps  # type: ignore[method-assign]

    @abc.abstractmethod
    def transition(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Transition:
        """Density of the next sample.

        A pure function of its arguments and the scheduler's configuration, differentiable in `model_output`.

        Args:
            point: Where in the schedule.
            sample: `(B, ...)` float32.
            model_output: `(B, ...)` float32, guidance applied.
        """

    @abc.abstractmethod
    def ode_step(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Tensor:
        """The next sample `(B, ...)` of the deterministic sampler with the same marginals (arguments as above)."""

    @abc.abstractmethod
    def noise_levels(self) -> list[float]:
        """Noise levels of the full schedule, one more than there are steps; asked right after `set_timesteps`."""

    @property
    def num_steps(self) -> int:
        """Steps of the full schedule."""
        return len(self._full_timesteps)

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """Make the full schedule, then show the pipeline the run's segment of it (arguments of the diffusers class).

        Raises:
            UserError: The run's segment or window lies outside the schedule, a step of the window has std 0, or the
                base's schedule is not finite.
        """
        super().set_timesteps(*args, **kwargs)  # type: ignore[misc]  # the diffusers class stands behind the mixin
        self._full_timesteps = self.timesteps
        self._noise_levels = self.noise_levels()
        if not all(math.isfinite(level) for level in self._noise_levels):
            raise UserError(
                f"The base scheduler's schedule of {self.num_steps} steps is not finite: {self._noise_levels!r}. "
                "Choose another number of steps or spacing."
            )
        begin, end = self._bounds()
        self._check_window()
        self.timesteps = self._full_timesteps[begin:end]
        self._position, self._carried = begin, None if self.run is None else self.run.initial

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Pipelines call it with 0, which is the begin of the segment."""
        self._position = self._bounds()[0] + begin_index

    @property
    def step_index(self) -> int | None:
        """The step of the full schedule that comes next."""
        return self._position

    def point(self, index: int) -> SchedulePoint:
        """The schedule at step `index`."""
        return SchedulePoint(
            index,
            float(self._full_timesteps[index]),
            self._noise_levels[index],
            self._noise_levels[index + 1],
            self._noise_levels[1],
        )

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, return_dict: bool = True, **__: Any
    ) -> Any:
        """Take the next step of the run; other arguments of diffusers schedulers are accepted and have no effect.

        Args:
            model_output: `(B, ...)`, guidance applied.
            timestep: As the pipeline has it; steps are counted, not looked up.
            sample: `(B, ...)` as the pipeline keeps it, perhaps rounded to its dtype.
            return_dict: Whether to return an object with `prev_sample` instead of a tuple.

        Raises:
            UserError: The sample is not finite.
            WorldR1Error: The model output is not finite.
            ValueError: `set_timesteps` has not been called, or the run does not have one generator per sample.
        """
        if self._position is None:
            raise ValueError("Call set_timesteps before step.")
        run = self.run if self.run is not None else PolicyRun()
        point = self.point(self._position)
        exact, output = self._exact(sample), model_output.float()
        if run.is_stochastic(point.index):
            following = self._draw(run, point, exact, output)
        else:
            following = self._follow(run, point, exact, output)
        run.calls.clear()
        following = run.inject(point.index, following)
        if not bool(torch.isfinite(following).all()):
            _explain_not_finite(point.index, exact, output)
        self._position += 1
        self._carried = run.final = following
        returned = following.to(sample.dtype)
        return _StepOutput(returned) if return_dict else (returned,)

    def _draw(self, run: PolicyRun, point: SchedulePoint, sample: Tensor, output: Tensor) -> Tensor:
        transition = self.transition(point, sample, output)
        drawn = transition.mean + transition.std * draw_normal(run.generators, sample)
        if run.record:
            run.steps.append(
                PolicyStep(
                    point,
                    sample,
                    drawn,
                    transition.mean,
                    transition.std,
                    transition.log_prob(drawn),
                    tuple(run.calls),
                )
            )
        return drawn

    def _follow(self, run: PolicyRun, point: SchedulePoint, sample: Tensor, output: Tensor) -> Tensor:
        following = self.ode_step(point, sample, output)
        if run.record_ode:
            nothing = torch.zeros(len(sample), device=sample.device)
            run.steps.append(PolicyStep(point, sample, following, following, 0.0, nothing, tuple(run.calls)))
        return following

    def _exact(self, sample: Tensor) -> Tensor:
        """The float32 sample behind the pipeline's copy; the copy itself where the pipeline changed it."""
        carried = self._carried
        if carried is None or carried.shape != sample.shape:
            return sample.float()
        carried = carried.to(sample.device)
        # Some pipelines round their copy and then hand it over in float32 again (Mochi in bfloat16).
        kinds = dict.fromkeys((sample.dtype, torch.bfloat16, torch.float16))
        unchanged = any(torch.equal(carried.to(kind).to(sample.dtype), sample) for kind in kinds)
        return carried if unchanged else sample.float()

    def _bounds(self) -> tuple[int, int]:
        num_steps = len(self._full_timesteps)
        run = self.run if self.run is not None else PolicyRun()
        begin, end = run.segment if run.segment is not None else (0, num_steps)
        if not 0 <= begin < end <= num_steps:
            raise UserError(f"segment must lie within the {num_steps} steps of the schedule, received {run.segment!r}.")
        if run.window[0] != run.window[1] and not 0 <= run.window[0] < run.window[1] <= num_steps:
            raise UserError(f"window must lie within the {num_steps} steps of the schedule, received {run.window!r}.")
        return begin, end

    def _check_window(self) -> None:
        window = self.run.window if self.run is not None else (0, 0)
        nothing = torch.zeros(1, 1)
        for index in range(*window):
            std = self.transition(self.point(index), nothing, nothing).std
            if not (math.isfinite(std) and std > 0):
                raise UserError(
                    f"The window {window!r} holds step {index} of {self.num_steps}, at which {type(self).__name__} "
                    f"draws with std {std!r}; a density needs a finite std above 0. Choose a window without this step."
                )


def _explain_not_finite(index: int, sample: Tensor, output: Tensor) -> None:
    if not bool(torch.isfinite(sample).all()):
        raise UserError(f"The latents before step {index} hold NaN or infinite values. Check the initial noise.")
    if not bool(torch.isfinite(output).all()):
        raise WorldR1Error(f"The model's output at step {index} holds NaN or infinite values.")
    raise WorldR1Error(f"The latents after step {index} are not finite, although what they come from is.")


@dataclass(frozen=True, slots=True)
class _StepOutput:
    prev_sample: Tensor
