"""The sampler under test, and a pipeline without a model that runs its policies."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldr1_core.policy import PolicyRun, PolicyScheduler, PolicyStep
from worldr1_core.sampler import Sampler
from worldr1_core.seeding import generator
from worldr1_core.testing.failures import CallFailed
from worldr1_core.testing.subject import Subject

NUM_STEPS = 12
WINDOW = (4, 7)
SHAPE = (2, 3, 8, 8)
"""(C, T, H, W) of one sample."""
STEP_FIX = "leave PolicyScheduler.step alone, or record the steps of the window and the last latents as it does"


@dataclass(frozen=True, slots=True)
class Trace:
    """Record of a pipeline's view of a policy's run.

    Attributes:
        latents: Its latents before every step and after the last, in its own dtype.
        outputs: The denoiser's outputs.
        run: The run, with what was recorded.
    """

    latents: list[Tensor]
    outputs: list[Tensor]
    run: PolicyRun

    @property
    def final(self) -> Tensor:
        """The float32 latents after the last step."""
        if self.run.final is None:
            raise CallFailed("run.final was not filled in", fix=STEP_FIX)
        return self.run.final


def kit_denoiser(sample: Tensor, timestep: Any) -> Tensor:
    """A smooth stand-in for a model; batch-mates do not influence each other."""
    return 0.5 * torch.sin(1.7 * sample) + 0.3 * sample.flip(-1) - 0.2 * math.cos(float(timestep))


def kit_latents(batch_size: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Initial noise `(B, C, T, H, W)`, the same for the same sample whatever the batch."""
    return torch.stack([torch.randn(shape, generator=generator(i, "kit latents")) for i in range(batch_size)])


def kit_run(seeds: Sequence[int], **options: Any) -> PolicyRun:
    """A recording run over the kit's window, with one generator for every seed."""
    generators = [generator(seed, "kit noise") for seed in seeds]
    return PolicyRun(**{"window": WINDOW, "record": True, "generators": generators, **options})


class SamplerSubject(Subject[Sampler]):
    """A sampler, and the scheduler of the pipeline for which it makes policies."""

    def __init__(
        self, given: Any, base: Any, options: Mapping[str, Any] | None, schedule: Mapping[str, Any] | None, device: str
    ) -> None:
        super().__init__(given, Sampler, options, device)
        self._base = base
        self.schedule = dict(schedule or {})

    def base(self) -> Any:
        """A fresh base scheduler."""
        callable_base = inspect.isfunction(self._base) or isinstance(self._base, type | functools.partial)
        return self._base() if callable_base else copy.deepcopy(self._base)

    def scheduler(self, sampler: Sampler | None = None) -> PolicyScheduler:
        """A fresh policy."""
        made = (self.component if sampler is None else sampler).make_scheduler(self.base())
        if not isinstance(made, PolicyScheduler):
            raise CallFailed(
                f"make_scheduler returned {made!r}, which is no PolicyScheduler",
                fix="return a scheduler of a class that derives from PolicyScheduler",
            )
        return made

    def begin(self, scheduler: PolicyScheduler, run: PolicyRun, num_steps: int = NUM_STEPS) -> None:
        """Set up the scheduler as a pipeline does before its loop."""
        scheduler.run = run
        scheduler.set_timesteps(num_steps, **self.schedule)
        scheduler.set_begin_index(0)

    def play(
        self,
        run: PolicyRun,
        latents: Tensor,
        scheduler: PolicyScheduler | None = None,
        change: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Trace:
        """Run a policy as a pipeline would.

        Args:
            run: What it shall do.
            latents: `(B, ...)` at the begin, in the dtype that the pipeline keeps.
            scheduler: A fresh one if left out.
            change: What the pipeline does to its latents after the step of that number in the segment.
        """
        scheduler = self.scheduler() if scheduler is None else scheduler
        self.begin(scheduler, run)
        trace = Trace([latents], [], run)
        for number, timestep in enumerate(scheduler.timesteps):
            before = trace.latents[-1]
            trace.outputs.append(kit_denoiser(before.float(), timestep).to(before.dtype))
            after = scheduler.step(trace.outputs[-1], timestep, before, return_dict=False)[0]
            trace.latents.append(after if change is None else change(number, after))
        return trace

    @functools.cached_property
    def trace(self) -> Trace:
        """Four samples over the kit's window, shared by the checks that only look."""
        return self.play(kit_run(range(4)), kit_latents(4))

    @property
    def steps(self) -> list[PolicyStep]:
        """The steps recorded in `trace`.

        Raises:
            CallFailed: They are not those of the window.
        """
        found = [step.point.index for step in self.trace.run.steps]
        if found != list(range(*WINDOW)):
            raise CallFailed(f"the window {WINDOW} was recorded as steps {found}", fix=STEP_FIX)
        return self.trace.run.steps
