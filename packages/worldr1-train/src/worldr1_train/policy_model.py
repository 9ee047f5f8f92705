"""The denoisers as one module: what the optimiser, DDP and FSDP see of a backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from worldr1_core.backbone import Backbone
from worldr1_core.policy_step import PolicyStep


class StepInput:
    """A recorded step on its way through wrappers that take containers apart (DDP, FSDP); they leave this one whole."""

    __slots__ = ("step",)

    def __init__(self, step: PolicyStep) -> None:
        self.step = step


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

    def forward(self, recorded: StepInput) -> Tensor:
        """The model output `(B, ...)` float32 for a recorded step; see `Backbone.predict`."""
        return self.backbone.predict(recorded.step)

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
