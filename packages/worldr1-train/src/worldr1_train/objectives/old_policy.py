"""The slowly following copy of the trained parameters that samples for DiffusionNFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_core.objective import Policy


class OldPolicy:
    """Parameters theta_old, which follow once per rollout batch: theta_old <- eta theta_old + (1 - eta) theta.

    After n optimiser steps, eta = min(rate (n - first), largest), and 0 before step `first`.

    Args:
        rate: Growth of eta per optimiser step, >= 0.
        largest: Bound of eta, in [0, 1).
        first: Optimiser steps before eta grows.
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
        """Begin as a copy of the trained parameters."""
        self.values = {name: value.detach().clone() for name, value in policy.parameters().items()}
        self.num_updates = 0

    @torch.no_grad()
    def end_update(self, policy: Policy) -> None:
        """Count an optimiser step; follow if it was the last of its rollout batch."""
        self.num_updates += 1
        if self.num_updates % policy.updates_per_rollout:
            return
        for name, value in policy.parameters().items():
            self.values[name].lerp_(value.detach().to(self.values[name]), 1 - self.eta)

    def state_dict(self) -> dict[str, Any]:
        """The values, on the CPU, and the number of optimiser steps."""
        values = {name: value.detach().cpu().clone() for name, value in self.values.items()}
        return {"values": values, "num_updates": self.num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; `start` comes first.

        Raises:
            UserError: It holds other parameters than those that are trained.
        """
        if state["values"].keys() != self.values.keys():
            raise UserError(
                f"The old policy of the checkpoint has other parameters than those that are trained: "
                f"{len(state['values'])} against {len(self.values)}. Resume with the manifest that it was made with."
            )
        for name, value in state["values"].items():
            self.values[name].copy_(value)
        self.num_updates = int(state["num_updates"])
