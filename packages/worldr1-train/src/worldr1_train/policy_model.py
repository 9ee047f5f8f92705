"""The denoisers of a backbone as one module, for the optimiser, DDP and FSDP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldr1_core.backbone import Backbone
from worldr1_core.policy_step import PolicyStep, SchedulePoint


class StepInput:
    """Argument of `PolicyModel.forward` for one recorded step.

    DDP and FSDP rebuild containers that are passed to `forward`, but pass objects of other classes through unchanged.

    Args:
        step: The recorded step.
        sample: Replaces the sample of the step; see `Backbone.predict`.
    """

    __slots__ = ("sample", "step")

    def __init__(self, step: PolicyStep, sample: Tensor | None = None) -> None:
        self.step, self.sample = step, sample

    def run(self, backbone: Backbone) -> Tensor:
        """Call the denoiser."""
        return backbone.predict(self.step) if self.sample is None else backbone.predict(self.step, self.sample)


class ChainInput:
    """Argument of `PolicyModel.forward` for several steps of the deterministic sampler in one forward pass.

    Args:
        steps: Recorded steps to run, in order; the first one provides the initial sample.
        ode_step: The scheduler's deterministic step.
        first: Index of the first step with a gradient.
        recompute: Store only the samples, and recompute each step in the backward pass.
    """

    def __init__(
        self,
        steps: Sequence[PolicyStep],
        ode_step: Callable[[SchedulePoint, Tensor, Tensor], Tensor],
        first: int,
        *,
        recompute: bool = False,
    ) -> None:
        self._steps, self._ode_step, self._first, self._recompute = steps, ode_step, first, recompute

    def run(self, backbone: Backbone) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the final sample, and the samples and model outputs of the steps with a gradient."""
        sample = self._steps[0].sample
        samples, outputs = [], []
        for index, step in enumerate(self._steps):
            has_gradient = index >= self._first
            with nullcontext() if has_gradient else torch.no_grad():
                if has_gradient and self._recompute:
                    output = checkpoint(backbone.predict, step, sample, use_reentrant=False)
                else:
                    output = backbone.predict(step, sample)
                if has_gradient:
                    samples.append(sample.detach())
                    outputs.append(output)
                sample = self._ode_step(step.point, sample, output) + self._injected(index)
        return sample, tuple(samples), tuple(outputs)

    def _injected(self, index: int) -> Tensor | float:
        """Return what the noise conditioner added after a step of the recorded run."""
        if index + 1 == len(self._steps):
            return 0.0
        before, after = self._steps[index].next_sample, self._steps[index + 1].sample
        return 0.0 if torch.equal(before, after) else after - before


class PolicyModel(nn.Module):
    """All denoisers of a backbone behind one `forward`, so that DDP and FSDP wrap every parameter.

    The layers stay in evaluation mode: with dropout, the probability ratio of an unchanged policy would differ from 1.

    Args:
        backbone: Backbone whose denoisers are trained.
        full: Train every parameter, in float32; otherwise only those that already require gradients (the adapter).
        keep_reference: With `full`, keep a copy of the initial weights for `reference`.
    """

    def __init__(self, backbone: Backbone, *, full: bool = False, keep_reference: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.denoisers = nn.ModuleDict(dict(backbone.denoisers))
        if full:
            self.float().requires_grad_(True)
        self.full = full
        self._initial: dict[str, Tensor] = {}
        if full and keep_reference:
            self._initial = {name: p.detach().clone() for name, p in self.trainable().items()}
        self.eval()

    def forward(self, call: StepInput | ChainInput) -> Any:
        """Run one step, or a chain of steps, with gradients.

        Returns:
            For a step, the model output `(B, ...)` in float32. For a chain, see `ChainInput.run`.
        """
        return call.run(self.backbone)

    def call_unsharded(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function that calls the denoisers.

        With FSDP2, sharded parameters are gathered for the call, after `register_rollout_forward`.
        """
        return function(*args, **kwargs)

    def register_rollout_forward(self) -> None:
        """Make `call_unsharded` gather sharded parameters, as `forward` does. Call it once, after FSDP2 sharding."""
        from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

        if isinstance(self, FSDPModule):
            register_fsdp_forward_method(self, "call_unsharded")

    def train(self, mode: bool = True) -> PolicyModel:
        """Keep the model in evaluation mode; see the class."""
        return super().train(False)

    @property
    def has_reference_copy(self) -> bool:
        """Whether the model keeps a copy of the initial weights."""
        return bool(self._initial)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that require gradients, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Switch to the model before post-training within the block."""
        if not self.full:
            with self.backbone.adapter_disabled():
                yield
            return
        with swapped_parameters(self.trainable(), self._initial):
            yield


@contextlib.contextmanager
def swapped_parameters(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> Iterator[None]:
    """Replace the values of parameters within the block; the old values are restored exactly."""
    kept = {name: parameters[name].detach().clone() for name in values}
    try:
        copy_parameters(parameters, values)
        yield
    finally:
        copy_parameters(parameters, kept)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor from all processes, which all must call it; return an unsharded tensor unchanged."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """Return this process's shard of a sharded tensor; return an unsharded tensor unchanged."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def copy_parameters(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Copy values into the parameters of the same names; if sharded, only this process's shards."""
    for name, value in values.items():
        local_tensor(parameters[name]).copy_(local_tensor(value))
