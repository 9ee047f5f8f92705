"""HTML report of a probe: tables, frames and curves on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from markupsafe import Markup

from worldr1_core.pages.axes import Axes, Shape, draw_panel
from worldr1_core.pages.page import html_page
from worldr1_core.pages.words import number, seconds
from worldr1_core.provenance import versions
from worldr1_rewards.probes.pictures import Strips
from worldr1_rewards.probes.rank_statistics import mean
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.probes.source import CLEAN, Source
from worldr1_rewards.report.templating import render

_MOST_FAILURES = 20
_PALE = {"fill": "none", "stroke": "var(--commanded,#0072b2)", "stroke-opacity": ".35"}
_BOLD = {"fill": "none", "stroke": "var(--estimated,#d55e00)", "stroke-width": "2.5"}


@dataclass(frozen=True)
class Section:
    """One source's part of the page.

    Attributes:
        report: From `summarise`.
        outcomes: Every clip's score.
        source: Where the clips come from.
        strips: Frames of the first clip of every kind.
        title: Heading; empty on a page with one section of rendered clips.
        prefix: Goes before every anchor, so that two sections may show the same kinds.
    """

    report: Mapping[str, Any]
    outcomes: Sequence[Outcome]
    source: Source
    strips: Strips
    title: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class _Row:
    """A row of a table; `anchor` is what its label links to, if anything."""

    label: str
    cells: Sequence[str]
    anchor: str = ""


@dataclass(frozen=True)
class _Table:
    caption: str
    head: Sequence[str]
    rows: Sequence[_Row]


def probe_page(name: str, sections: Sequence[Section], manifest: str | None = None) -> str:
    """The page.

    Args:
        name: What was probed.
        sections: One for each source of clips.
        manifest: Text of the manifest that was used.
    """
    return html_page(
        f"Probe of {name}",
        summary=Markup().join(_summary(section) for section in sections),
        body=Markup().join(_kinds(section) for section in sections),
        versions=versions(),
        manifest=manifest,
        body_name="kinds",
    )


def _summary(section: Section) -> Markup:
    report, prefix = section.report, section.prefix
    tables = [_corruptions(report, prefix), _hacks(report, prefix), _structure(report), _sensitivity(report)]
    failures = [] if report["hacks_below_clean"] is True else report["hacks_below_clean"]
    return render(
        "probe_summary.html.j2",
        title=section.title,
        tiles=_tiles(report),
        failures=failures[:_MOST_FAILURES],
        left_out=report.get("left_out", {}),
        tables=[table for table in tables if table is not None],
        unscored=report["unscored"],
    )


def _kinds(section: Section) -> Markup:
    main = [o for o in section.outcomes if o.sample.varied is None]
    kinds = [CLEAN, *section.report["auc"], *section.report["hacks"]]
    return render("probe_kinds.html.j2", title=section.title, kinds=[_kind(kind, section, main) for kind in kinds])


def _tiles(report: Mapping[str, Any]) -> dict[str, str]:
    aucs = [value for value in report["auc"].values() if not math.isnan(value)]
    failures = [] if report["hacks_below_clean"] is True else report["hacks_below_clean"]
    cost = report["cost"]
    return {
        "Lowest AUC at full severity": number(min(aucs)) if aucs else "none",
        "Hacks as good as a clean clip": str(len(failures)),
        "Clips": str(report["clips"]),
        "Clips without a score": str(sum(entry["count"] for entry in report["unscored"].values())),
        "Median time per clip": seconds(cost["seconds"]),
        "Peak memory of a clip": "not known" if cost["megabytes"] is None else f"{cost['megabytes']:.0f} MiB",
    }


def _corruptions(report: Mapping[str, Any], prefix: str) -> _Table:
    severities = list(next(iter(report["auc_by_severity"].values()), {}))
    rows = [
        _Row(
            kind,
            [
                *(number(report["auc_by_severity"][kind][severity]) for severity in severities),
                number(report["auc_mean"][kind]),
                number(report["paired"][kind]),
                number(report["spearman"][kind]),
            ],
            prefix + kind,
        )
        for kind in report["auc"]
    ]
    head = ["Corruption", *(f"AUC at {severity}" for severity in severities), "AUC, mean", "Beats its own", "Spearman"]
    return _Table("Clean clips against corrupted ones; Spearman of score and severity, -1 is perfect.", head, rows)


def _hacks(report: Mapping[str, Any], prefix: str) -> _Table:
    rows = [
        _Row(kind, [number(entry["smallest_margin"]), f"{entry['without_score']} of {entry['count']}"], prefix + kind)
        for kind, entry in report["hacks"].items()
    ]
    caption = "Hacks: smallest margin below the clean clip of the same scene and prompt."
    return _Table(caption, ["Hack", "Smallest margin", "Without a score"], rows)


def _structure(report: Mapping[str, Any]) -> _Table | None:
    rows = [
        _Row(
            f"{reward}, {flaw}",
            [
                number(entry["auc"]),
                number(entry["spearman"]),
                ", ".join(f"{severity}: {number(score)}" for severity, score in entry["scores"].items()),
                str(entry["without_score"]),
            ],
        )
        for reward, flaws in report.get("structure", {}).items()
        for flaw, entry in flaws.items()
    ]
    head = ["Judged scene", "AUC", "Spearman", "Mean score by severity", "Without a score"]
    return _Table("Scenes whose flaws only a view off the path can show.", head, rows) if rows else None


def _sensitivity(report: Mapping[str, Any]) -> _Table | None:
    rows = [
        _Row(
            what,
            [
                ", ".join(f"{setting}: {number(value['mean'])}" for setting, value in entry["settings"].items()),
                number(entry["spread"]),
            ],
        )
        for what, entry in report["sensitivity"].items()
    ]
    head = ["Varied", "Mean score", "Spread"]
    return _Table("Mean score of clean clips as one thing varies.", head, rows) if rows else None


def _kind(kind: str, section: Section, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    strip = None
    if kind in section.strips.images:
        label, uri, count = section.strips.images[kind]
        strip = {"label": label, "uri": uri, "count": count}
    return {
        "name": kind,
        "anchor": section.prefix + kind,
        "meaning": section.source.meanings.get(kind, ""),
        "strip": strip,
        "curve": _curve(kind, outcomes, section.source.severities) if kind in section.report["auc"] else None,
    }


def _curve(kind: str, outcomes: Sequence[Outcome], severities: Sequence[float]) -> dict[str, Any] | None:
    """Score over severity: one pale line per case, the mean of those that have a score in bold, and it in figures."""
    steps = [0.0, *severities]
    cases = [o.sample.case for o in outcomes if o.sample.kind == kind and o.sample.severity == severities[-1]]
    known = {(o.sample.case, o.sample.severity): o.value for o in outcomes if o.sample.kind in (CLEAN, kind)}
    lines = [[known[case, step] for step in steps] for case in cases]
    values = [value for line in lines for value in line if not math.isnan(value)]
    if not values:
        return None
    low, high = min(0.0, *values), max(0.0, *values)
    pad = 0.06 * (high - low) or 0.1
    axes = Axes((-0.03, 1.03), (low - pad, high + pad))
    middle = [mean(list(column)) for column in zip(*lines, strict=True)]
    drawn = [*(_line(axes, steps, line, _PALE) for line in lines), _line(axes, steps, middle, _BOLD)]
    words = "; ".join(f"{number(value)} at {step:.2f}" for step, value in zip(steps, middle, strict=True))
    panel = draw_panel(
        f"Score under {kind}",
        f"Mean score of {len(cases)} cases: {words}.",
        axes,
        [shape for shape in drawn if shape is not None],
        x_label="severity",
        y_label="score",
    )
    return {"panel": panel, "words": words}


def _line(axes: Axes, steps: Sequence[float], values: Sequence[float], style: Mapping[str, str]) -> Shape | None:
    pairs = [(step, value) for step, value in zip(steps, values, strict=True) if not math.isnan(value)]
    if not pairs:
        return None
    xs, ys = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    return Shape("polyline", {"points": axes.line(xs, ys), **style})
