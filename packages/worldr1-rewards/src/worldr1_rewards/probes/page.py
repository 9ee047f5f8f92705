"""The probe's report for people: tables, frames and curves on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worldr1_core.provenance import versions
from worldr1_core.rank_statistics import mean
from worldr1_rewards.probes.pictures import Strips
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.probes.source import CLEAN, Source
from worldr1_rewards.report.axes import Axes, grid, svg_panel
from worldr1_rewards.report.markup import number, seconds, text
from worldr1_rewards.report.page import html_page, provenance


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


def probe_page(name: str, sections: Sequence[Section], manifest: str | None = None) -> str:
    """The page.

    Args:
        name: What was probed.
        sections: One for each source of clips.
        manifest: Text of the manifest that was used.
    """
    return html_page(
        f"Probe of {name}",
        summary="".join(_heading(section) + _summary(section) for section in sections),
        body="".join(_heading(section) + _kinds(section) for section in sections),
        footer=provenance(versions(), manifest),
        body_name="kinds",
    )


def _heading(section: Section) -> str:
    return f'<h2 style="font-size:24px;margin:24px 0 12px">{text(section.title)}</h2>' if section.title else ""


def _summary(section: Section) -> str:
    report, prefix = section.report, section.prefix
    tables = _corruptions(report, prefix) + _hacks(report, prefix) + _structure(report) + _sensitivity(report)
    return _tiles(report) + _failures(report) + _left_out(report) + tables + _unscored(report)


def _kinds(section: Section) -> str:
    main = [o for o in section.outcomes if o.sample.varied is None]
    kinds = [CLEAN, *section.report["auc"], *section.report["hacks"]]
    return "".join(_kind(kind, section, main) for kind in kinds)


def _tiles(report: Mapping[str, Any]) -> str:
    aucs = [value for value in report["auc"].values() if not math.isnan(value)]
    failures = [] if report["hacks_below_clean"] is True else report["hacks_below_clean"]
    cost = report["cost"]
    tiles = {
        "Lowest AUC at full severity": number(min(aucs)) if aucs else "none",
        "Hacks as good as a clean clip": str(len(failures)),
        "Clips": str(report["clips"]),
        "Clips without a score": str(sum(entry["count"] for entry in report["unscored"].values())),
        "Median time a clip": seconds(cost["seconds"]),
        "Peak memory of a clip": "not known" if cost["megabytes"] is None else f"{cost['megabytes']:.0f} MiB",
    }
    items = "".join(
        f'<li class="tile"><span class="label">{label}</span><span class="value">{text(value)}</span></li>'
        for label, value in tiles.items()
    )
    return f'<ul class="tiles">{items}</ul>'


def _failures(report: Mapping[str, Any]) -> str:
    if report["hacks_below_clean"] is True:
        return '<div class="notice"><p><b>Every hack earns less than every clean clip of its scene.</b></p></div>'
    items = "".join(
        f"<li><b>{text(f['hack'])}</b> of {text(f['case'])} against {text(f['clean_case'])}: {text(f['reason'])}, "
        f"margin {number(f['margin'])}</li>"
        for f in report["hacks_below_clean"][:20]
    )
    return f'<div class="notice warn"><p><b>Hacks that reach a clean clip</b></p><ul>{items}</ul></div>'


def _left_out(report: Mapping[str, Any]) -> str:
    rows = "".join(f"<li><b>{text(label)}</b>: {text(why)}</li>" for label, why in report.get("left_out", {}).items())
    return f'<div class="notice warn"><p><b>Clips in no figure</b></p><ul>{rows}</ul></div>' if rows else ""


def _unscored(report: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<li><b>{text(kind)}</b>: {entry['count']} of {entry['of']} without a score"
        + "".join(f"<br>{count} × {text(reason)}" for reason, count in entry["reasons"].items())
        + "</li>"
        for kind, entry in report["unscored"].items()
    )
    return f'<div class="notice"><p><b>No score</b></p><ul>{rows}</ul></div>' if rows else ""


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header = "".join(f'<th scope="col"><span class="label">{text(cell)}</span></th>' for cell in head)
    lines = [(cells[0], "".join(f"<td class=number>{text(cell)}</td>" for cell in cells[1:])) for cells in rows]
    body = "".join(f'<tr><th scope="row">{first}</th>{rest}</tr>' for first, rest in lines)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _link(kind: str, prefix: str) -> str:
    return f'<a href="#{text(prefix + kind)}">{text(kind)}</a>'


def _corruptions(report: Mapping[str, Any], prefix: str) -> str:
    severities = list(next(iter(report["auc_by_severity"].values()), {}))
    rows = [
        [
            _link(kind, prefix),
            *(number(report["auc_by_severity"][kind][severity]) for severity in severities),
            number(report["auc_mean"][kind]),
            number(report["paired"][kind]),
            number(report["spearman"][kind]),
        ]
        for kind in report["auc"]
    ]
    head = ["Corruption", *(f"AUC at {severity}" for severity in severities), "AUC, mean", "Beats its own", "Spearman"]
    return _table("Clean clips against corrupted ones; Spearman of score and severity, -1 is perfect.", head, rows)


def _hacks(report: Mapping[str, Any], prefix: str) -> str:
    rows = [
        [_link(kind, prefix), number(entry["smallest_margin"]), f"{entry['without_score']} of {entry['count']}"]
        for kind, entry in report["hacks"].items()
    ]
    caption = "Hacks: smallest margin below the clean clip of the same scene and prompt."
    return _table(caption, ["Hack", "Smallest margin", "Without a score"], rows)


def _structure(report: Mapping[str, Any]) -> str:
    rows = [
        [
            text(f"{reward}, {flaw}"),
            number(entry["auc"]),
            number(entry["spearman"]),
            ", ".join(f"{severity}: {number(score)}" for severity, score in entry["scores"].items()),
            str(entry["without_score"]),
        ]
        for reward, flaws in report.get("structure", {}).items()
        for flaw, entry in flaws.items()
    ]
    head = ["Judged scene", "AUC", "Spearman", "Mean score by severity", "Without a score"]
    return _table("Scenes whose flaws only a view off the path can show.", head, rows) if rows else ""


def _sensitivity(report: Mapping[str, Any]) -> str:
    rows = [
        [
            text(what),
            ", ".join(f"{setting}: {number(value['mean'])}" for setting, value in entry["settings"].items()),
            number(entry["spread"]),
        ]
        for what, entry in report["sensitivity"].items()
    ]
    head = ["Varied", "Mean score", "Spread"]
    return _table("Mean score of clean clips as one thing varies.", head, rows) if rows else ""


def _kind(kind: str, section: Section, outcomes: Sequence[Outcome]) -> str:
    film, images = "", section.strips.images
    if kind in images:
        label, uri, count = images[kind]
        film = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="Frames: {text(kind)}">'
            f'<div class="rows" style="--n:{count}"><figure><figcaption><b>{text(label)}</b></figcaption>'
            f'<div class="strip"><img src="{uri}" alt="{count} frames of {text(label)}, {text(kind)}"></div>'
            "</figure></div></div>"
        )
    curves = _curve(kind, outcomes, section.source.severities) if kind in section.report["auc"] else ""
    meanings = section.source.meanings
    words = f'<p class="note">{text(meanings[kind])}</p>' if kind in meanings else ""
    return (
        f'<article class="clip" id="{text(section.prefix + kind)}"><header><h2>{text(kind)}</h2>'
        f'<a class="up" href="#top">Summary ↑</a>{words}</header>{film}{curves}</article>'
    )


def _curve(kind: str, outcomes: Sequence[Outcome], severities: Sequence[float]) -> str:
    """Score over severity: one pale line a case, the mean of those that have a score in bold, and it in figures."""
    steps = [0.0, *severities]
    cases = [o.sample.case for o in outcomes if o.sample.kind == kind and o.sample.severity == severities[-1]]
    known = {(o.sample.case, o.sample.severity): o.value for o in outcomes if o.sample.kind in (CLEAN, kind)}
    lines = [[known[case, step] for step in steps] for case in cases]
    values = [value for line in lines for value in line if not math.isnan(value)]
    if not values:
        return ""
    low, high = min(0.0, *values), max(0.0, *values)
    pad = 0.06 * (high - low) or 0.1
    axes = Axes((-0.03, 1.03), (low - pad, high + pad))
    pale = "".join(_line(axes, steps, line, 'stroke="var(--commanded,#0072b2)" stroke-opacity=".35"') for line in lines)
    middle = [mean(list(column)) for column in zip(*lines, strict=True)]
    bold = _line(axes, steps, middle, 'stroke="var(--estimated,#d55e00)" stroke-width="2.5"')
    words = "; ".join(f"{number(value)} at {step:.2f}" for step, value in zip(steps, middle, strict=True))
    body = grid(axes, "severity", "score") + pale + bold
    panel = svg_panel(f"Score under {kind}", f"Mean score of {len(cases)} cases: {words}.", body)
    key = f'<span class="key scene"><i></i>each scene</span><span class="key"><i></i>mean: {text(words)}</span>'
    return f'<div class="panels">{panel}</div><p class="note">{key}</p>'


def _line(axes: Axes, steps: Sequence[float], values: Sequence[float], style: str) -> str:
    pairs = [(step, value) for step, value in zip(steps, values, strict=True) if not math.isnan(value)]
    if not pairs:
        return ""
    xs, ys = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    return f'<polyline points="{axes.line(xs, ys)}" fill="none" {style}/>'
