"""Constraints on statistics of the policy's videos relative to the model before training, enforced by dual ascent.

Let r be the ratio of a statistic's mean over the policy's videos to its mean over the reference videos from the same
noise. For a constraint r = t, the loss of every video i contains the term

    (lambda + rho (t - r)) (t - r_i),

where the multiplier lambda is updated with the residual t - r after each update. Its gradient is that of the augmented
Lagrangian lambda (t - r) + rho / 2 (t - r)^2. r is computed over the videos of the current update that have been
recorded, on all processes; for those still to be recorded, the moving average of r over earlier updates stands in.
Without it, the first micro-batches would have the r of few videos, whose residual often has the wrong sign; so does the
residual of the average alone, because r varies between updates. A constraint r >= t is treated in the same way, with a
factor of at least 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMOOTHING = 0.7
"""Weight of the old value in the moving average of a ratio; multipliers are updated with the average."""


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
        """Ratio over the values recorded since the last update; `None` if there are none."""
        return self.total / self.reference if self.reference > 0 else None

    def estimate(self, missing: float) -> float | None:
        """Return the ratio if a share of the videos has not been recorded yet; `None` if it is unknown."""
        if self.ratio is None or self.average is None:
            return self.ratio
        return (1 - missing) * self.ratio + missing * self.average


class RatioConstraints:
    """Constraints on ratios to the reference videos, with their multipliers and loss terms.

    Args:
        equal: Statistic -> target of its ratio.
        at_least: Statistic -> lower bound of its ratio.
        rate: Change of a multiplier per update and unit of the residual, >= 0.
        penalty: Weight rho of the quadratic term, >= 0.
    """

    def __init__(
        self, equal: Mapping[str, float], at_least: Mapping[str, float], *, rate: float, penalty: float
    ) -> None:
        self._rate, self._penalty = rate, penalty
        self._recorded = self._expected = 0
        self._constraints = {name: _Constraint(target, is_floor=False) for name, target in equal.items()}
        self._constraints |= {name: _Constraint(target, is_floor=True) for name, target in at_least.items()}

    def record(
        self,
        values: Mapping[str, Tensor],
        references: Mapping[str, Tensor],
        gather: Callable[[Tensor], Tensor],
    ) -> None:
        """Add videos to those of the current update.

        Args:
            values: Statistic -> `(b,)` values; NaN where it does not apply.
            references: Statistic -> `(b,)` values of the reference videos.
            gather: Concatenates the values `(n,)` of all processes. All processes must call `record` equally often.
        """
        sums = []
        for name in self._constraints:
            known = _known(values[name], references[name])
            sums += [part[known].detach().float().sum() for part in (values[name], references[name])]
        parts = gather(torch.stack(sums)).view(-1, len(self._constraints), 2)
        everywhere = parts.sum(0).tolist()
        self._recorded += len(parts) * len(next(iter(values.values())))
        for constraint, (total, reference) in zip(self._constraints.values(), everywhere, strict=True):
            constraint.total += total
            constraint.reference += reference

    def loss(
        self, values: Mapping[str, Tensor], references: Mapping[str, Tensor], means: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the sum of the loss terms, `(b,)`, of videos that have been recorded.

        Args:
            values: Statistic -> `(b,)` values with gradients; NaN where it does not apply.
            references: Statistic -> `(b,)` values of the reference videos.
            means: Statistic -> mean over the reference videos of the rollout batch.
        """
        terms = []
        for name, constraint in self._constraints.items():
            known = _known(values[name], references[name])
            value = torch.where(known, values[name], torch.zeros_like(values[name]))
            ratio = value / means[name].clamp(min=1e-8)
            terms.append(self._factor(constraint) * (constraint.target - ratio))
        return torch.stack(terms).sum(0)

    def update(self) -> dict[str, tuple[float, float]]:
        """Update the multipliers from the values recorded since the last update; the same on all processes.

        Returns:
            Statistic -> (ratio, multiplier).
        """
        found = {}
        self._recorded, self._expected = 0, self._recorded
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
        """Return the multipliers, the averages of the ratios and the number of videos of an update."""
        saved = {name: {"multiplier": c.multiplier, "average": c.average} for name, c in self._constraints.items()}
        return {"constraints": saved, "num_videos": self._expected}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self._expected = state["num_videos"]
        for name, saved in state["constraints"].items():
            constraint = self._constraints[name]
            constraint.multiplier, constraint.average = saved["multiplier"], saved["average"]

    def _factor(self, constraint: _Constraint) -> float:
        missing = 1 - self._recorded / self._expected if self._recorded < self._expected else 0.0
        ratio = constraint.estimate(missing)
        residual = 0.0 if ratio is None else constraint.target - ratio
        factor = constraint.multiplier + self._penalty * residual
        return max(0.0, factor) if constraint.is_floor else factor


def _known(values: Tensor, references: Tensor) -> Tensor:
    return values.isfinite() & references.isfinite()
