"""Constraints on statistics of the policy's videos, relative to the model before training, held by dual ascent.

For a constraint r = t on the ratio r of a statistic's mean over videos to its mean over the reference videos of the
same noise, the loss gains (lambda + rho (t - r)) (t - r_i) for every video i, where lambda follows the residual t - r
from update to update. Its gradient is that of lambda (t - r) + rho / 2 (t - r)^2, the augmented Lagrangian. r is taken
over the videos of the update that have been seen so far, on all processes: the residual of an earlier update would push
the wrong way as often as not, because r differs from batch to batch. A constraint r >= t is the same, with a factor of
at least 0.
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
    average: float | None = None
    total: float = 0.0
    reference: float = 0.0

    @property
    def ratio(self) -> float | None:
        """Of the values noted since the last update; `None` before the first."""
        return self.total / self.reference if self.reference > 0 else None


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
        self,
        values: Mapping[str, Tensor],
        references: Mapping[str, Tensor],
        means: Mapping[str, Tensor],
        gather: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Terms of the loss, `(b,)`; the values are noted for the next `update`.

        Args:
            values: Statistic -> `(b,)` with gradients, NaN where it does not apply.
            references: Statistic -> `(b,)` of the reference videos.
            means: Statistic -> mean over the reference videos of the rollout batch.
            gather: Puts the values `(n,)` of all processes one after the other; every process calls `loss` alike.
        """
        known = {name: values[name].isfinite() & references[name].isfinite() for name in self._constraints}
        sums = [
            part[known[name]].detach().float().sum()
            for name in self._constraints
            for part in (values[name], references[name])
        ]
        everywhere = gather(torch.stack(sums)).view(-1, len(self._constraints), 2).sum(0).tolist()
        terms = []
        for (name, constraint), (total, reference) in zip(self._constraints.items(), everywhere, strict=True):
            constraint.total += total
            constraint.reference += reference
            value = torch.where(known[name], values[name], torch.zeros_like(values[name]))
            ratio = value / means[name].clamp(min=1e-8)
            terms.append(self._factor(constraint) * (constraint.target - ratio))
        return torch.stack(terms).sum(0)

    def update(self) -> dict[str, tuple[float, float]]:
        """Let the multipliers follow the values noted since the last update, on all processes alike.

        Returns:
            Statistic -> ratio and multiplier.
        """
        found = {}
        for name, constraint in self._constraints.items():
            ratio = constraint.ratio
            constraint.total = constraint.reference = 0.0
            if ratio is None:
                continue
            before = ratio if constraint.average is None else constraint.average
            constraint.average = SMOOTHING * before + (1 - SMOOTHING) * ratio
            constraint.multiplier += self._rate * (constraint.target - constraint.average)
            if constraint.is_floor:
                constraint.multiplier = max(0.0, constraint.multiplier)
            found[name] = ratio, constraint.multiplier
        return found

    def state_dict(self) -> dict[str, Any]:
        """Multipliers, and averages of the ratios."""
        return {name: {"multiplier": c.multiplier, "average": c.average} for name, c in self._constraints.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for name, saved in state.items():
            constraint = self._constraints[name]
            constraint.multiplier, constraint.average = saved["multiplier"], saved["average"]

    def _factor(self, constraint: _Constraint) -> float:
        residual = 0.0 if constraint.ratio is None else constraint.target - constraint.ratio
        factor = constraint.multiplier + self._penalty * residual
        return max(0.0, factor) if constraint.is_floor else factor
