"""Exponential moving average (EMA) of the trained parameters, which is evaluated and exported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldr1_core.errors import UserError, describe_exception
from worldr1_train.policy_model import local_tensor, swapped_parameters


class ExponentialMovingAverage:
    """Moving average of parameters in float32, updated every few optimiser steps.

    The decay at step n is min(decay, (1 + n) / (10 + n)), as in Flow-GRPO's code, so that the initial weights do not
    dominate the average of a short run. If parameters are sharded, each process averages its own shards.

    Args:
        parameters: Name -> parameter, after `accelerator.prepare`.
        decay: Weight of the old average in an update, in [0, 1).
        every: Optimiser steps between updates, >= 1.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, decay: float, every: int) -> None:
        self.decay, self.every = decay, every
        self._parameters = dict(parameters)
        self.values = {name: local_tensor(p.detach()).float().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after optimiser step `step`, counted from 1, if it is a multiple of `every`."""
        if step % self.every:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.values.items():
            average.lerp_(local_tensor(self._parameters[name].detach()).to(average), 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the parameters by the average within the block."""
        with swapped_parameters(self._parameters, self.values):
            yield

    def save(self, path: Path) -> None:
        """Write the average as safetensors."""
        save_file({name: value.cpu().contiguous() for name, value in self.values.items()}, str(path))

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Read an average that `save` wrote.

        Raises:
            UserError: The file is missing or unreadable, or contains other parameters.
        """
        try:
            saved: dict[str, Tensor] = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"Cannot read the moving average {str(path)!r}: {describe_exception(error)}. Resume with the manifest "
                "and the number of processes of the original run."
            ) from error
        if {name: value.shape for name, value in saved.items()} != {n: v.shape for n, v in self.values.items()}:
            raise UserError(
                f"The parameters in {str(path)!r} differ from the trained parameters: the file has {len(saved)} "
                f"tensors, the model {len(self.values)}. Resume with the manifest of the original run."
            )
        for name, value in saved.items():
            self.values[name].copy_(value)
