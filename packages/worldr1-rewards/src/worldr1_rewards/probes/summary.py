"""Summary of a probe's scores: AUC, rank correlation, hacks and margins."""

from __future__ import annotations

import math
import statistics as stats
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from worldr1_rewards.probes.rank_statistics import auc, mean, spearman
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.probes.source import CLEAN, ProbeCase, Source

Value = Callable[[Outcome], float]


def summarise(outcomes: Sequence[Outcome], source: Source) -> dict[str, Any]:
    """The report as plain data, NaN where there is no figure (`as_json` makes that null).

    Args:
        outcomes: All of a source's.
        source: Where the clips come from.

    Returns:
        See docs/reference/probe.md for every key.
    """
    main = [o for o in outcomes if o.sample.varied is None]
    return {
        "clips": len(outcomes),
        **separation(main, source, _total),
        "hacks": {kind: _margins(main, kind) for kind in source.hacks if _of(main, kind)},
        "hacks_below_clean": hack_failures(main, source.hacks) or True,
        "sensitivity": _sensitivity(outcomes, source),
        "unscored": unscored(outcomes),
        "cost": _cost(main),
        "parts": _parts(main, source),
        "plan": source.describe(),
    }


def separation(outcomes: Sequence[Outcome], source: Source, value: Value) -> dict[str, Any]:
    """AUC and rank correlation of every corruption.

    Args:
        outcomes: Clean and corrupted clips.
        source: Tells the corruptions and their severities.
        value: Which score of an outcome counts.
    """
    severities = source.severities
    report: dict[str, Any] = {"auc": {}, "auc_mean": {}, "auc_by_severity": {}, "paired": {}, "spearman": {}}
    for kind in source.corruptions:
        group = _of(outcomes, kind)
        if not group:
            continue
        cases = dict.fromkeys(o.sample.case for o in group)  # in order, so that means are the same in every run
        clean = [value(o) for o in _of(outcomes, CLEAN) if o.sample.case in cases]
        by_severity = {
            f"{severity:.2f}": auc(clean, [value(o) for o in group if o.sample.severity == severity])
            for severity in severities
        }
        report["auc"][kind] = list(by_severity.values())[-1]
        report["auc_mean"][kind] = mean(list(by_severity.values()))
        report["auc_by_severity"][kind] = by_severity
        report["paired"][kind] = mean([_outranks(outcomes, case, kind, severities[-1], value) for case in cases])
        report["spearman"][kind] = mean([_follows(outcomes, case, kind, value) for case in cases])
    return report


def hack_failures(outcomes: Sequence[Outcome], hacks: Sequence[str]) -> list[dict[str, Any]]:
    """Hacks that earn as much as a clean clip of the same scene, whatever its prompt; worst first.

    A hack without a score earns nothing and is no failure; a clean clip without one is, since nothing can rank below
    it.
    """
    failures = []
    for hack in (o for o in outcomes if o.sample.kind in hacks):
        for clean in _of(outcomes, CLEAN):
            if clean.sample.case.scene != hack.sample.case.scene:
                continue
            known = not (math.isnan(hack.value) or math.isnan(clean.value))
            own = clean.sample.case == hack.sample.case
            if (own and math.isnan(clean.value)) or (known and hack.value >= clean.value):
                failures.append(
                    {
                        "hack": hack.sample.kind,
                        "case": hack.sample.case.label,
                        "clean_case": clean.sample.case.label,
                        "margin": clean.value - hack.value,
                        "reason": "the clean clip has no score" if math.isnan(clean.value) else "earns as much",
                    }
                )
    return sorted(failures, key=lambda f: (not math.isnan(f["margin"]), f["margin"]))


def unscored(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Clips without a score, counted by kind, with their reasons; kinds that all have one are left out."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.sample.kind, []).append(outcome)
    return {
        kind: {"count": len(missing), "of": len(group), "reasons": dict(Counter(_shared(o) for o in missing))}
        for kind, group in groups.items()
        if (missing := [o for o in group if o.reason is not None])
    }


def as_json(value: Any) -> Any:
    """Plain values without NaN, which JSON does not know; floats are rounded to six digits."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _total(outcome: Outcome) -> float:
    return outcome.value


def _of(outcomes: Iterable[Outcome], kind: str) -> list[Outcome]:
    return [o for o in outcomes if o.sample.kind == kind]


def _outranks(outcomes: Sequence[Outcome], case: ProbeCase, kind: str, severity: float, value: Value) -> float:
    """1 if a case's clean clip beats its own corrupted one, 0.5 for a tie, NaN where one has no score."""
    clean = [value(o) for o in _of(outcomes, CLEAN) if o.sample.case == case]
    broken = [value(o) for o in _of(outcomes, kind) if o.sample.case == case and o.sample.severity == severity]
    return auc(clean, broken)


def _follows(outcomes: Sequence[Outcome], case: ProbeCase, kind: str, value: Value) -> float:
    """Rank correlation of score and severity in one case, the clean clip at severity 0; -1 is perfect."""
    mine = [o for o in outcomes if o.sample.case == case and o.sample.kind in (CLEAN, kind)]
    return spearman([o.sample.severity for o in mine], [value(o) for o in mine])


def _margins(outcomes: Sequence[Outcome], kind: str) -> dict[str, Any]:
    """Margin of a hack below the clean clip of the same scene and prompt, in units of the clean score."""
    clean = {o.sample.case: o.value for o in _of(outcomes, CLEAN)}
    hacks = _of(outcomes, kind)
    margins = {o.sample.case.label: clean[o.sample.case] - o.value for o in hacks}
    known = [margin for margin in margins.values() if not math.isnan(margin)]
    return {
        "margins": margins,
        "smallest_margin": min(known) if known else math.nan,
        "without_score": sum(o.reason is not None for o in hacks),
        "count": len(hacks),
    }


def _sensitivity(outcomes: Sequence[Outcome], source: Source) -> dict[str, Any]:
    """Clean scores under other settings, such as another resolution, beside those of the source's own."""
    varied = set(source.varied_cases)
    base = [o for o in outcomes if o.sample.varied is None and o.sample.kind == CLEAN and o.sample.case in varied]
    report: dict[str, Any] = {}
    for what in source.variations:
        groups: dict[str, list[Outcome]] = {}
        for outcome in [*base, *(o for o in outcomes if o.sample.varied == what)]:
            groups.setdefault(outcome.sample.setting(what), []).append(outcome)
        settings = {
            name: {"mean": mean([o.value for o in group]), "without_score": sum(o.reason is not None for o in group)}
            for name, group in groups.items()
        }
        means = [entry["mean"] for entry in settings.values() if not math.isnan(entry["mean"])]
        report[what] = {"settings": settings, "spread": max(means) - min(means) if means else math.nan}
    return report


def _cost(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    known = [o.megabytes for o in outcomes if o.megabytes is not None]
    return {
        "seconds": stats.median(o.seconds for o in outcomes),
        "seconds_max": max(o.seconds for o in outcomes),
        "megabytes": max(known) if known else None,
    }


def _parts(outcomes: Sequence[Outcome], source: Source) -> dict[str, Any]:
    names = list(outcomes[0].parts) if outcomes else []
    if len(names) < 2:
        return {}
    keys = ("auc", "auc_mean", "spearman")
    reports = {name: separation(outcomes, source, lambda o, name=name: o.parts[name]) for name in names}  # type: ignore[misc]
    return {name: {key: report[key] for key in keys} for name, report in reports.items()}


def _shared(outcome: Outcome) -> str:
    """The reason without what is the clip's own: its name and any numbers, so that equal causes count together."""
    reason = outcome.reason or ""
    words = ["…" if any(char.isdigit() for char in word) else word for word in reason.split()]
    return " ".join(word for i, word in enumerate(words) if word != "…" or i == 0 or words[i - 1] != "…")
