"""The denoisers as one module: what the optimiser, DDP and FSDP see of a backbone."""

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
    """A recorded step on its way through wrappers that take containers apart (DDP, FSDP); they leave this one whole.

    Args:
        step: The step.
        sample: In place of its sample; see `Backbone.predict`.
    """

    __slots__ = ("sample", "step")

    def __init__(self, step: PolicyStep, sample: Tensor | None = None) -> None:
        self.step, self.sample = step, sample

    def run(self, backbone: Backbone) -> Tensor:
        """Call the denoiser."""
        return backbone.predict(self.step) if self.sample is None else backbone.predict(self.step, self.sample)


class ChainInput:
    """A whole run of the deterministic sampler, so that a wrapper sees one forward pass.

    Args:
        steps: Recorded steps that are run, in order; the first gives the sample to begin with.
        ode_step: The scheduler's deterministic step.
        first: Index of the first step that has a gradient.
        recompute: Store the samples alone, and compute each step again in the backward pass.
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
        """Final sample, and the samples and model outputs of the steps that have a gradient."""
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
        """The noise conditioner's addition after a step, as it was in the recorded run."""
        if index + 1 == len(self._steps):
            return 0.0
        before, after = self._steps[index].next_sample, self._steps[index + 1].sample
        return 0.0 if torch.equal(before, after) else after - before


class PolicyModel(nn.Module):
    """All denoisers of a backbone behind one `forward`, so that a wrapper knows every parameter.

    The layers stay in evaluation mode: dropout would make the probability ratio of an unchanged policy differ from 1.

    Args:
        backbone: Model; its trainable parameters are what is trained.
        full: Every parameter is trained, in float32; else only those that require gradients already (the adapter).
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
        """Run one step, or a chain of them, with gradients.

        Returns:
            The model output `(B, ...)` float32 of a step; see `ChainInput.run` for a chain.
        """
        return call.run(self.backbone)

    def call_unsharded(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function that calls the denoisers; FSDP gathers sharded parameters around it once that is set up."""
        return function(*args, **kwargs)

    def register_rollout_forward(self) -> None:
        """Let `call_unsharded` gather sharded parameters as `forward` does; call it once after FSDP2 sharding."""
        from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

        if isinstance(self, FSDPModule):
            register_fsdp_forward_method(self, "call_unsharded")

    def train(self, mode: bool = True) -> PolicyModel:
        """Stays in evaluation mode; see the class."""
        return super().train(False)

    @property
    def has_reference_copy(self) -> bool:
        """Whether it holds a second copy of the trained weights, as they were before."""
        return bool(self._initial)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that require gradients, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Within the block the model is the one before post-training."""
        if not self.full:
            with self.backbone.adapter_disabled():
                yield
            return
        with swapped_parameters(self.trainable(), self._initial):
            yield


@contextlib.contextmanager
def swapped_parameters(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> Iterator[None]:
    """Within the block the parameters have other values, of the same shapes; the old ones come back bit for bit."""
    kept = {name: parameters[name].detach().clone() for name in values}
    try:
        copy_parameters(parameters, values)
        yield
    finally:
        copy_parameters(parameters, kept)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor put together from all processes, which all must call this; the tensor itself if it is whole."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local_tensor(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; the tensor itself where it is whole."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def copy_parameters(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Write values into the parameters of the same names, whole ones or this process's part of sharded ones."""
    for name, value in values.items():
        local_tensor(parameters[name]).copy_(local_tensor(value))
