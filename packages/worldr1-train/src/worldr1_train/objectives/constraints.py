"""Constraints on statistics of the policy's videos, relative to the model before training, held by dual ascent.

For a constraint r = t on the ratio r of a statistic's mean over a rollout batch to its mean over the reference videos
of the same noise, the loss gains (lambda + rho (t - r)) (t - r_i) for every video i, where lambda follows the residual
t - r from update to update, and r is that of the last update. A constraint r >= t is the same, with a factor of at
least 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMOOTHING = 0.7
"""Weight of the residual's average against its new value; multipliers follow the average."""


@dataclass(slots=True)
class _Constraint:
    target: float
    is_floor: bool
    multiplier: float = 0.0
    ratio: float | None = None
    average: float | None = None
    total: float = 0.0
    reference: float = 0.0


class RatioConstraints:
    """Multipliers of ratios to the reference, and their terms of the loss.

    Args:
        equal: Statistic -> ratio that it is to keep.
        at_least: Statistic -> ratio that it must not fall below.
        rate: Change of a multiplier per update and unit of the residual, >= 0.
        penalty: rho, >= 0.
    """

    def __init__(
        self, equal: Mapping[str, float], at_least: Mapping[str, float], *, rate: float, penalty: float
    ) -> None:
        self._rate, self._penalty = rate, penalty
        self._constraints = {name: _Constraint(target, is_floor=False) for name, target in equal.items()}
        self._constraints |= {name: _Constraint(target, is_floor=True) for name, target in at_least.items()}

    def loss(
        self, values: Mapping[str, Tensor], references: Mapping[str, Tensor], means: Mapping[str, Tensor]
    ) -> Tensor:
        """Terms of the loss, `(b,)`; the values are noted for the next `update`.

        Args:
            values: Statistic -> `(b,)` with gradients, NaN where it does not apply.
            references: Statistic -> `(b,)` of the reference videos.
            means: Statistic -> mean over the reference videos of the rollout batch.
        """
        terms = []
        for name, constraint in self._constraints.items():
            known = values[name].isfinite() & references[name].isfinite()
            value = torch.where(known, values[name], torch.zeros_like(values[name]))
            constraint.total += float(value.detach().sum())
            constraint.reference += float(references[name][known].sum())
            ratio = value / means[name].clamp(min=1e-8)
            terms.append(self._factor(constraint) * (constraint.target - ratio))
        return torch.stack(terms).sum(0)

    def update(self, gather: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, tuple[float, float]]:
        """Let the multipliers follow the values noted since the last update, on all processes alike.

        Args:
            gather: Puts the values `(n,)` of all processes one after the other.
            device: Where it needs them.

        Returns:
            Statistic -> ratio and multiplier.
        """
        names = list(self._constraints)
        own = torch.tensor(
            [[c.total, c.reference] for c in self._constraints.values()], dtype=torch.float64, device=device
        )
        sums = gather(own.flatten()).view(-1, len(names), 2).sum(0).cpu()
        found = {}
        for name, (total, reference) in zip(names, sums.tolist(), strict=True):
            constraint = self._constraints[name]
            constraint.total = constraint.reference = 0.0
            if reference <= 0:
                continue
            constraint.ratio = total / reference
            before = constraint.ratio if constraint.average is None else constraint.average
            constraint.average = SMOOTHING * before + (1 - SMOOTHING) * constraint.ratio
            constraint.multiplier += self._rate * (constraint.target - constraint.average)
            if constraint.is_floor:
                constraint.multiplier = max(0.0, constraint.multiplier)
            found[name] = constraint.ratio, constraint.multiplier
        return found

    def state_dict(self) -> dict[str, Any]:
        """Multipliers and ratios."""
        return {
            name: {"multiplier": c.multiplier, "ratio": c.ratio, "average": c.average}
            for name, c in self._constraints.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for name, saved in state.items():
            constraint = self._constraints[name]
            constraint.multiplier, constraint.ratio = saved["multiplier"], saved["ratio"]
            constraint.average = saved["average"]

    def _factor(self, constraint: _Constraint) -> float:
        ratio = 1.0 if constraint.ratio is None else constraint.ratio  # the policy begins as the reference
        factor = constraint.multiplier + self._penalty * (constraint.target - ratio)
        return max(0.0, factor) if constraint.is_floor else factor
