"""The rule of the alarms: a trained reward rises while a metric that no reward reads falls.

A policy that finds a way to please its rewards without doing what they stand for (stripes on every wall, flat textures,
one video for all seeds) is seen in metrics that it was not trained on. The rule is a pure function of paired changes
and their 95 % intervals; with many metrics, an alarm now and then is chance: look at the videos.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # brings torch, and the manifest's section needs the bounds alone
    from worldr1_train.evaluation import Change

MIN_PAIRS = 5
"""Pairs of values below which an interval says nothing."""


@dataclass(frozen=True, slots=True)
class MetricBounds:
    """Allowed range of a metric as a share of its value before training.

    Attributes:
        min_ratio: Below it the metric raises an alarm; `None` for no lower bound.
        max_ratio: Above it the metric raises an alarm; `None` for no upper bound.
    """

    min_ratio: float | None = None
    max_ratio: float | None = None


_STATISTICS = ("gradient_x", "gradient_y", "row_variance", "column_variance", "contrast", "motion", "mean_gradient")

DEFAULT_BOUNDS: Mapping[str, MetricBounds] = MappingProxyType(
    {
        **dict.fromkeys(_STATISTICS, MetricBounds(min_ratio=0.97)),
        "diversity": MetricBounds(min_ratio=0.9),
        "flow_matching_loss": MetricBounds(max_ratio=1.1),
    }
)
"""Metric -> bounds, where the rule names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRule:
    """What raises an alarm.

    Attributes:
        bounds: Metric (`-` written `_`) -> bounds.
        other_metrics: Whether every other metric that is not trained on raises one when it falls and the interval of
            its change lies below 0.
    """

    bounds: Mapping[str, MetricBounds] = field(default_factory=lambda: DEFAULT_BOUNDS)
    other_metrics: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A metric that left its bounds while trained rewards rose.

    Attributes:
        metric: Its name.
        change: Its change, with the value before.
        bound: The ratio that it passed; `None` if it raised the alarm by falling.
        risen: Trained reward -> its change, of those whose interval lies above 0.
    """

    metric: str
    change: Change
    bound: float | None
    risen: Mapping[str, Change]

    @property
    def ratio(self) -> float | None:
        """Value after training over value before; `None` where the latter is not above 0."""
        return ratio(self.change)

    def as_data(self) -> dict[str, Any]:
        """Plain data for JSON and logs, rounded to six digits after the point."""
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
        """One sentence: which trained rewards rose, which metric left its bounds, and by how much."""
        rewards = ", ".join(f"{name} ({change.mean:+.3g})" for name, change in self.risen.items())
        verb = "rose" if self.change.mean > 0 else "fell"
        share = "" if self.ratio is None else f" to {self.ratio:.1%} of its value before training"
        bound = "" if self.bound is None else f"; the bound is {self.bound:.0%}"
        return (
            f"{self.metric}, which is not trained on, {verb}{share} ({self.change.mean:+.3g}, 95 % interval "
            f"{self.change.low:+.3g} to {self.change.high:+.3g}{bound}) while the trained {rewards} rose."
        )


def find_alarms(changes: Mapping[str, Change], trained: Collection[str], rule: AlarmRule) -> list[Alarm]:
    """Compare trained rewards with the other metrics.

    Args:
        changes: Metric -> paired change since before training.
        trained: Metrics that rewards of the training are; a change of one of them raises no alarm.
        rule: Bounds.

    Returns:
        One alarm per metric that left its bounds; none unless the interval of a trained reward lies above 0.
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
    """Value after over value before; `None` where the latter is not above 0."""
    return (change.before + change.mean) / change.before if change.before > 0 else None


def _is_sure(change: Change) -> int:
    """The sign of a change whose 95 % interval lies on one side of 0; 0 if it does not, or has too few pairs."""
    if change.num_pairs < MIN_PAIRS:
        return 0
    return int(change.low > 0) - int(change.high < 0)


def _passed_bound(change: Change, bounds: MetricBounds) -> float | None:
    """The bound that a change passes, if its interval lies on that side of no change."""
    found, sign = ratio(change), _is_sure(change)
    assert found is not None
    if bounds.min_ratio is not None and found < bounds.min_ratio and sign < 0:
        return bounds.min_ratio
    if bounds.max_ratio is not None and found > bounds.max_ratio and sign > 0:
        return bounds.max_ratio
    return None
