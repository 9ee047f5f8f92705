"""Watching an unmodified pipeline: which denoiser calls led to each recorded step, to be made again in training."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.policy import DenoiserCall, PolicyRun, PolicyScheduler, PolicyStep

CAST_ARGUMENTS = ("hidden_states", "encoder_hidden_states")
"""Arguments that a denoiser of lower precision needs in its own dtype; timesteps and rotary embeddings keep theirs."""


class CallRecorder:
    """Forward hooks on denoisers for the time of one pipeline call.

    Args:
        denoisers: Modules by their name in the pipeline.
        scheduler: The policy, which knows the step that comes next.
        run: Receives the calls of the steps that it records.
    """

    def __init__(
        self, denoisers: Mapping[str, nn.Module], scheduler: PolicyScheduler | None = None, run: PolicyRun | None = None
    ) -> None:
        self._denoisers, self._scheduler, self._run = denoisers, scheduler, run
        self.first_outputs: list[Tensor] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[CallRecorder]:
        """Hooks are on inside the block."""
        handles = []
        try:
            for name, module in self._denoisers.items():
                # Asked for once a call: diffusers walks through every layer to tell a model's dtype.
                dtype: Any = module.dtype
                cast = functools.partial(cast_inputs, dtype)
                handles.append(module.register_forward_pre_hook(cast, with_kwargs=True))
                if self._run is not None and (self._run.record or self._run.record_ode):
                    record = functools.partial(self._record, name)
                    handles.append(module.register_forward_hook(record, with_kwargs=True))
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _record(self, name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        assert self._run is not None
        assert self._scheduler is not None
        index = self._scheduler.step_index
        if index is None or not self._run.is_recorded(index):
            return
        self._run.calls.append(DenoiserCall(name, args, dict(kwargs)))
        if not self._run.steps:
            self.first_outputs.append(output_tensor(output))


def cast_inputs(
    dtype: torch.dtype, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook, once bound to a dtype: latents and embeddings enter a denoiser in its own dtype."""
    given = {name: kwargs.get(name) for name in CAST_ARGUMENTS}
    cast = {
        name: value.to(dtype)
        for name, value in given.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
    }
    return (args, {**kwargs, **cast}) if cast else None


def output_tensor(output: Any) -> Tensor:
    """The prediction in a denoiser's answer: a tuple's first entry, or `sample`."""
    tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
    if not isinstance(tensor, Tensor):
        raise WorldR1Error(f"A denoiser answered {type(output).__name__}, expected a tensor, a tuple or a `sample`.")
    return tensor


def replace_sample(call: DenoiserCall, recorded: Tensor, sample: Tensor) -> DenoiserCall:
    """The same call with another sample.

    Args:
        call: A recorded call, whose argument `hidden_states` holds k blocks of the recorded sample.
        recorded: `(B, ...)` sample of the recorded step.
        sample: `(B, ...)` to put in its place; its gradient is kept.

    Raises:
        UserError: The denoiser's input is something else than the sample.
    """
    given = call.kwargs.get("hidden_states", call.args[0] if call.args else None)
    blocks = len(given) // len(recorded) if isinstance(given, Tensor) else 0
    if not isinstance(given, Tensor) or given.shape != (blocks * len(recorded), *recorded.shape[1:]):
        raise UserError(
            f"The denoiser {call.module!r} does not take the sample alone as its input, so that it cannot be called "
            "with another one. Override predict of the backbone, or choose an objective that does not need it."
        )
    replaced = torch.cat([sample] * blocks).to(given.dtype) if blocks > 1 else sample.to(given.dtype)
    if "hidden_states" in call.kwargs:
        return DenoiserCall(call.module, call.args, {**call.kwargs, "hidden_states": replaced})
    return DenoiserCall(call.module, (replaced, *call.args[1:]), call.kwargs)


def check_guidance(
    step: PolicyStep,
    outputs: Sequence[Tensor],
    guide: Callable[[Sequence[Tensor], str], Tensor],
    scheduler: PolicyScheduler,
) -> None:
    """Hold a backbone's guidance rule to what the pipeline gave the scheduler at a recorded step.

    Args:
        step: The step.
        outputs: What the denoisers answered to `step.calls`.
        guide: The rule.
        scheduler: What the step was drawn by.

    Raises:
        WorldR1Error: They differ; training would follow another policy than the one that sampled.
    """
    if not step.calls:
        raise WorldR1Error(
            "No denoiser was called before a recorded step. `denoisers` must name the modules that the pipeline calls."
        )
    with torch.no_grad():
        output = guide(outputs, step.calls[0].module).float()
        again = (
            scheduler.transition(step.point, step.sample, output).mean
            if step.std > 0
            else scheduler.ode_step(step.point, step.sample, output)
        )
    if again.shape != step.mean.shape or not torch.equal(again, step.mean):
        difference = float((again - step.mean).abs().max()) if again.shape == step.mean.shape else float("nan")
        raise WorldR1Error(
            f"The backbone's guidance rule does not give what the pipeline gave the scheduler: the mean of step "
            f"{step.point.index} differs by up to {difference:.3g} (shapes {tuple(again.shape)} and "
            f"{tuple(step.mean.shape)}). Mend `guidance_rule` or `guide`: it must do what the pipeline's __call__ does."
        )


def without_steps(scheduler: Any) -> Any:
    """A copy of a scheduler whose schedule is empty, so that the pipeline's own code goes straight to decoding."""
    empty = copy.copy(scheduler)

    @functools.wraps(scheduler.set_timesteps)  # pipelines look at the signature
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        type(scheduler).set_timesteps(empty, *args, **kwargs)
        empty.timesteps = empty.timesteps[:0]

    empty.set_timesteps = set_timesteps
    return empty


@contextlib.contextmanager
def swapped(pipeline: Any, **components: Any) -> Iterator[None]:
    """Within the block the pipeline has other components."""
    before = {name: getattr(pipeline, name) for name in components}
    try:
        for name, component in components.items():
            setattr(pipeline, name, component)
        yield
    finally:
        for name, component in before.items():
            setattr(pipeline, name, component)
