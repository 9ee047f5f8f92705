"""Table of a run's evaluations for its HTML page: means, paired changes with intervals, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worldr1_train.evaluation import Change, Evaluation, compare
from worldr1_train.result_table import UNCLEAR

HEADINGS = {"before": "before", "noise_only": "noise only", "after": "after"}


@dataclass(frozen=True, slots=True)
class Row:
    """One metric.

    Attributes:
        name: Name of the metric.
        is_trained: Whether the run trains on it.
        means: One per evaluation that there is, as text.
        change: Paired change, as text; empty without two evaluations.
        interval: Its 95 % interval, as text.
        verdict: `"rose"`, `"fell"`, `"unclear"`, or empty.
        is_alarm: Whether an alarm was raised.
    """

    name: str
    is_trained: bool
    means: Sequence[str]
    change: str = ""
    interval: str = ""
    verdict: str = ""
    is_alarm: bool = False


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    """All metrics of a run, trained ones first.

    Attributes:
        headings: Names of the evaluations that there are.
        rows: Metrics.
        num_videos: Videos of an evaluation.
        baseline: Name of the evaluation that the change starts from; empty without a change.
    """

    headings: Sequence[str]
    rows: Sequence[Row]
    num_videos: int
    baseline: str


def evaluation_table(
    evaluations: Mapping[str, Evaluation], trained: Sequence[str], alarms: Sequence[str]
) -> EvaluationTable | None:
    """Compare the evaluations of a run; the change is from `noise_only`, or else from `before`, to `after`.

    Args:
        evaluations: `"before"`, `"noise_only"` and `"after"`, as far as they are there.
        trained: Metrics that the run trains on.
        alarms: Metrics that raised an alarm.

    Returns:
        The table; `None` without an evaluation.
    """
    known = {key: evaluations[key] for key in HEADINGS if key in evaluations}
    if not known:
        return None
    baseline = next((key for key in ("noise_only", "before") if key in known), "") if "after" in known else ""
    changes = compare(known[baseline], known["after"]) if baseline else {}
    means = [evaluation.means() for evaluation in known.values()]
    names = sorted(means[0], key=lambda name: name not in trained)  # stable: the order of the manifest otherwise
    rows = [_row(name, trained, [own.get(name) for own in means], changes.get(name), name in alarms) for name in names]
    num_videos = len(next(iter(known.values())).prompts)
    return EvaluationTable([HEADINGS[key] for key in known], rows, num_videos, HEADINGS.get(baseline, ""))


def _row(
    name: str, trained: Sequence[str], means: Sequence[float | None], change: Change | None, is_alarm: bool
) -> Row:
    cells = ["–" if mean is None else f"{mean:.4g}" for mean in means]
    if change is None:
        return Row(name, name in trained, cells, is_alarm=is_alarm)
    verdict = "rose" if change.low > 0 else "fell" if change.high < 0 else UNCLEAR
    interval = f"{change.low:+.3g} to {change.high:+.3g}"
    return Row(name, name in trained, cells, f"{change.mean:+.3g}", interval, verdict, is_alarm)
