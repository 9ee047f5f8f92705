"""Old policy of DiffusionNFT: a moving average of the trained parameters, which samples the rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_core.objective import Policy


class OldPolicy:
    """Parameters theta_old, updated once per rollout batch: theta_old <- eta theta_old + (1 - eta) theta.

    After n optimiser steps, eta = min(rate (n - first), largest), and 0 before step `first`.

    Args:
        rate: Increase of eta per optimiser step, >= 0.
        largest: Upper bound of eta, in [0, 1).
        first: Number of optimiser steps before eta starts to increase.
    """

    def __init__(self, *, rate: float, largest: float, first: int) -> None:
        self._rate, self._largest, self._first = rate, largest, first
        self.values: dict[str, Tensor] = {}
        self.num_updates = 0

    @property
    def eta(self) -> float:
        """Weight of the old values after `num_updates` optimiser steps."""
        return min(self._rate * max(0, self.num_updates - self._first), self._largest)

    def start(self, policy: Policy) -> None:
        """Copy the trained parameters."""
        self.values = {name: value.detach().clone() for name, value in policy.parameters().items()}
        self.num_updates = 0

    @torch.no_grad()
    def end_update(self, policy: Policy) -> None:
        """Count an optimiser step; update the values if it was the last step of its rollout batch."""
        self.num_updates += 1
        if self.num_updates % policy.updates_per_rollout:
            return
        for name, value in policy.parameters().items():
            self.values[name].lerp_(value.detach().to(self.values[name]), 1 - self.eta)

    def state_dict(self) -> dict[str, Any]:
        """Return the values, on the CPU, and the number of optimiser steps."""
        values = {name: value.detach().cpu().clone() for name, value in self.values.items()}
        return {"values": values, "num_updates": self.num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`; call `start` first.

        Raises:
            UserError: The parameters differ from the trained ones.
        """
        if state["values"].keys() != self.values.keys():
            raise UserError(
                "The parameters of the checkpoint's old policy differ from the trained parameters: the checkpoint has "
                f"{len(state['values'])} tensors, the model {len(self.values)}. Resume with the manifest of the "
                "original run."
            )
        for name, value in state["values"].items():
            self.values[name].copy_(value)
        self.num_updates = int(state["num_updates"])
