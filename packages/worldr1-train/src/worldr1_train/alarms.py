"""Alarm rule for reward hacking: a trained reward rises while a metric that is not trained on gets worse.

Reward hacking (stripes on every wall, flat textures, the same video for all seeds) shows in metrics that the policy was
not trained on. The rule is a pure function of paired changes and their 95 % intervals. With many metrics, an occasional
alarm may be due to chance, so look at the videos.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imports torch, which the manifest's section does not need
    from worldr1_train.evaluation import Change

MIN_PAIRS = 5
"""Minimum number of pairs for a meaningful interval."""


@dataclass(frozen=True, slots=True)
class MetricBounds:
    """Allowed range of a metric, as a ratio to its value before training.

    Attributes:
        min_ratio: Ratio below which the metric raises an alarm; `None` for no lower bound.
        max_ratio: Ratio above which the metric raises an alarm; `None` for no upper bound.
    """

    min_ratio: float | None = None
    max_ratio: float | None = None


_STATISTICS = (
    "gradient_x",
    "gradient_y",
    "row_variance",
    "column_variance",
    "sharpness_evenness",
    "contrast",
    "motion",
    "mean_gradient",
)

DEFAULT_BOUNDS: Mapping[str, MetricBounds] = MappingProxyType(
    {
        **dict.fromkeys(_STATISTICS, MetricBounds(min_ratio=0.97)),
        "diversity": MetricBounds(min_ratio=0.9),
        "flow_matching_loss": MetricBounds(max_ratio=1.1),
    }
)
"""Metric -> default bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """Conditions for alarms.

    Attributes:
        bounds: Metric (with `_` instead of `-`) -> bounds.
        other_metrics: Whether any other metric that is not trained on raises an alarm if the 95 % interval of its
            change is below 0.
    """

    bounds: Mapping[str, MetricBounds] = field(default_factory=lambda: DEFAULT_BOUNDS)
    other_metrics: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Alarm about a metric that got worse while trained rewards rose.

    Attributes:
        metric: Name of the metric.
        change: Change of the metric since before training.
        bound: Bound that its ratio passed; `None` for a metric without bounds that fell.
        risen: Trained reward -> change, for the rewards whose interval is above 0.
    """

    metric: str
    change: Change
    bound: float | None
    risen: Mapping[str, Change]

    @property
    def ratio(self) -> float | None:
        """Value after training divided by the value before; `None` if the latter is not above 0."""
        return ratio(self.change)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for JSON and logs, rounded to six decimal places."""
        found = self.ratio
        return {
            "metric": self.metric,
            "before": round(self.change.before, 6),
            "change": round(self.change.mean, 6),
            "low": round(self.change.low, 6),
            "high": round(self.change.high, 6),
            "ratio": None if found is None else round(found, 6),
            "bound": self.bound,
            "risen": {name: round(change.mean, 6) for name, change in self.risen.items()},
            "message": self.message,
        }

    @property
    def message(self) -> str:
        """Sentence with the metric, its change, and the trained rewards that rose."""
        rewards = ", ".join(f"{name} ({change.mean:+.3g})" for name, change in self.risen.items())
        verb = "rose" if self.change.mean > 0 else "fell"
        share = "" if self.ratio is None else f" to {self.ratio:.1%} of its value before training"
        bound = "" if self.bound is None else f"; the bound is {self.bound:.0%}"
        return (
            f"{self.metric}, which is not trained on, {verb}{share} ({self.change.mean:+.3g}, 95 % interval "
            f"{self.change.low:+.3g} to {self.change.high:+.3g}{bound}) while the trained {rewards} rose."
        )


def find_alarms(changes: Mapping[str, Change], trained: Collection[str], rule: AlarmRule) -> list[Alarm]:
    """Find metrics that got worse while trained rewards rose.

    Args:
        changes: Metric -> paired change since before training.
        trained: Metrics that are trained on; they raise no alarms.
        rule: Conditions for alarms.

    Returns:
        One alarm per metric; empty unless the interval of at least one trained reward is above 0.
    """
    risen = {name: changes[name] for name in changes if name in trained and _is_sure(changes[name]) > 0}
    if not risen:
        return []
    alarms = []
    for name, change in changes.items():
        if name in trained or change.num_pairs < MIN_PAIRS:
            continue
        bounds = rule.bounds.get(name)
        if bounds is not None and ratio(change) is not None:
            bound = _passed_bound(change, bounds)
            is_alarm = bound is not None
        else:
            bound, is_alarm = None, rule.other_metrics and _is_sure(change) < 0
        if is_alarm:
            alarms.append(Alarm(metric=name, change=change, bound=bound, risen=risen))
    return alarms


def ratio(change: Change) -> float | None:
    """Return the value after divided by the value before; `None` if the latter is not above 0."""
    return (change.before + change.mean) / change.before if change.before > 0 else None


def _is_sure(change: Change) -> int:
    """Return the sign of a change; 0 if its 95 % interval contains 0, or if there are too few pairs."""
    if change.num_pairs < MIN_PAIRS:
        return 0
    return int(change.low > 0) - int(change.high < 0)


def _passed_bound(change: Change, bounds: MetricBounds) -> float | None:
    """Return the bound that a change passes, if its 95 % interval excludes 0 in that direction."""
    found, sign = ratio(change), _is_sure(change)
    assert found is not None
    if bounds.min_ratio is not None and found < bounds.min_ratio and sign < 0:
        return bounds.min_ratio
    if bounds.max_ratio is not None and found > bounds.max_ratio and sign > 0:
        return bounds.max_ratio
    return None
