"""The probe's report for people: tables, frames and curves on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from worldr1_core.provenance import versions
from worldr1_core.rank_statistics import mean
from worldr1_rewards.probes.pictures import NUM_FRAMES, Strips
from worldr1_rewards.probes.plan import CLEAN, ProbePlan
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.report.axes import Axes, grid, svg_panel
from worldr1_rewards.report.markup import number, seconds, text
from worldr1_rewards.report.page import html_page, provenance

MEANINGS: Mapping[str, str] = {
    "morph": "objects swell, shrink and wander",
    "bend": "a warp of the image that changes over time",
    "swim": "textures slide along their surfaces",
    "vanish": "the largest object shrinks or disappears half-way",
    "flicker": "exposure and white balance jump from frame to frame",
    "jitter": "the camera shakes",
    "wrong_direction": "the camera leaves the commanded direction, up to the opposite",
    "wrong_speed": "the camera makes less of the commanded way, down to 40 %",
    "frozen": "the camera stays where it is",
    "frozen_noise": "the same with fresh noise in every frame",
    "repeated": "one frame again and again",
    "flat2d": "one picture is zoomed or slid as the command asks",
    "blur": "every frame is blurred by 5 % of the width",
    "pure_noise": "no picture at all",
    "unrelated": "every frame shows another scene",
    "scene_cut": "half-way, another scene begins",
    "grey_fade": "the picture fades to grey",
}
"""Kind -> what it does, in words."""


def probe_page(
    name: str,
    report: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    plan: ProbePlan,
    strips: Strips,
    manifest: str | None = None,
) -> str:
    """The page.

    Args:
        name: What was probed.
        report: From `summarise`.
        outcomes: Every clip's score.
        plan: What was asked.
        strips: Frames of the first clip of every kind.
        manifest: Text of the manifest that was used.
    """
    main = [o for o in outcomes if o.sample.varied is None]
    kinds = [CLEAN, *report["auc"], *report["hacks"]]
    body = "".join(_kind(kind, report, main, plan, strips) for kind in kinds)
    tables = (_corruptions, _hacks, _structure, _sensitivity, _unscored)
    return html_page(
        f"Probe of {name}",
        summary=_tiles(report) + _failures(report) + "".join(table(report) for table in tables),
        body=body,
        footer=provenance(versions(), manifest),
        body_name="kinds",
    )


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


def _link(kind: str) -> str:
    return f'<a href="#{text(kind)}">{text(kind)}</a>'


def _corruptions(report: Mapping[str, Any]) -> str:
    severities = list(next(iter(report["auc_by_severity"].values()), {}))
    rows = [
        [
            _link(kind),
            *(number(report["auc_by_severity"][kind][severity]) for severity in severities),
            number(report["auc_mean"][kind]),
            number(report["paired"][kind]),
            number(report["spearman"][kind]),
        ]
        for kind in report["auc"]
    ]
    head = ["Corruption", *(f"AUC at {severity}" for severity in severities), "AUC, mean", "Beats its own", "Spearman"]
    return _table("Clean clips against corrupted ones; Spearman of score and severity, -1 is perfect.", head, rows)


def _hacks(report: Mapping[str, Any]) -> str:
    rows = [
        [_link(kind), number(entry["smallest_margin"]), f"{entry['without_score']} of {entry['count']}"]
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
    return _table("Mean score of clean clips as one thing varies.", ["Varied", "Mean score", "Spread"], rows)


def _kind(kind: str, report: Mapping[str, Any], outcomes: Sequence[Outcome], plan: ProbePlan, strips: Strips) -> str:
    film = ""
    if kind in strips.images:
        label, uri = strips.images[kind]
        film = (
            f'<div class="scroll" tabindex="0" role="region" aria-label="Frames: {text(kind)}">'
            f'<div class="rows" style="--n:{NUM_FRAMES}"><figure><figcaption><b>{text(label)}</b></figcaption>'
            f'<div class="strip"><img src="{uri}" alt="{NUM_FRAMES} frames of {text(label)}, {text(kind)}"></div>'
            "</figure></div></div>"
        )
    curves = _curve(kind, outcomes, plan) if kind in report["auc"] else ""
    words = f'<p class="note">{text(MEANINGS[kind])}</p>' if kind in MEANINGS else ""
    return (
        f'<article class="clip" id="{text(kind)}"><header><h2>{text(kind)}</h2>'
        f'<a class="up" href="#top">Summary ↑</a>{words}</header>{film}{curves}</article>'
    )


def _curve(kind: str, outcomes: Sequence[Outcome], plan: ProbePlan) -> str:
    """Score over severity: one pale line a case, the mean of those that have a score in bold, and it in figures."""
    steps = [0.0, *plan.severities]
    cases = [o.sample.case for o in outcomes if o.sample.kind == kind and o.sample.severity == plan.severities[-1]]
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
