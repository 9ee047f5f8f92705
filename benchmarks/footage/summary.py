"""From the rows of `real_footage.py` to its summary: means and worst values, ranks of broken clips, and the bars.

A value that is not known is `None` and never counts as a number; a bar without a value is neither passed nor failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from worldr1_rewards.probes.footage_corruptions import FOOTAGE_CORRUPTIONS, FOOTAGE_HACKS
from worldr1_rewards.probes.rank_statistics import auc, mean
from worldr1_rewards.probes.source import CLEAN

Row = Mapping[str, Any]

BARS: Mapping[str, tuple[str, float]] = {
    "rotation_mean": ("<", 0.5),
    "rotation_worst": ("<", 1.5),
    "centre_percent": ("<", 2.0),
    "focal_error_percent": ("<=", 15.0),
    "psnr_mean": (">=", 26.0),
    "psnr_lowest": (">=", 23.0),
    "coverage": (">=", 0.9),
    "coverage_of_visible": (">=", 0.9),
    "clean_reconstruction": (">=", 0.5),
    "clean_without_score": ("<=", 0.0),
    "pairs": (">=", 0.95),
    "auc_pooled": (">=", 0.95),
    "seconds": ("<=", 10.0),
}
"""Figure of `summarise` -> what it must reach."""
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda value, bar: value < bar,
    "<=": lambda value, bar: value <= bar,
    ">=": lambda value, bar: value >= bar,
}
_CLIP_VOLUME = 16 * 256 * 456
"""Pixels of the clip that the bar on seconds is stated for."""


def summarise(clips: Mapping[str, Row], separation: Row | None) -> dict[str, Any]:
    """Means and worst values over the clips with known cameras.

    Args:
        clips: Label -> row of `real_footage.measure`.
        separation: Of the total, or `None` where no clip was broken.

    Returns:
        `rotation_*`, `centre_percent*` and `psnr_*` where intrinsics were given; the same with `unknown_` where they
        were not. `rotation_mean` and `psnr_mean` are means over the clips; `rotation_worst`, `centre_percent`,
        `psnr_lowest`, `coverage`, `coverage_of_visible`, `clean_reconstruction`, `focal_error_percent` and `seconds`
        those of the worst clip. `seconds` are CPU seconds of reconstruction and re-render; a clip with more pixels
        than 16x256x456 counts in proportion.
    """
    known, unknown = ([row[key] for row in clips.values() if row.get(key) is not None] for key in ("known", "unknown"))
    ratios = [row["focal_over_true"] for row in unknown if row.get("focal_over_true") is not None]
    summary: dict[str, Any] = {
        "clips": len(clips),
        "rotation_mean": _mean(known, "rotation_mean"),
        "rotation_worst": _worst(max, known, "rotation_worst"),
        "centre_percent_mean": _mean(known, "centre_percent"),
        "centre_percent": _worst(max, known, "centre_percent"),
        "unknown_rotation_mean": _mean(unknown, "rotation_mean"),
        "unknown_rotation_worst": _worst(max, unknown, "rotation_worst"),
        "unknown_centre_percent": _worst(max, unknown, "centre_percent"),
        "focal_error_percent": max((100 * abs(ratio - 1) for ratio in ratios), default=None),
        "psnr_mean": _mean(known, "psnr"),
        "psnr_lowest": _worst(min, known, "psnr"),
        "psnr_worst_frame": _worst(min, known, "psnr_worst_frame"),
        "coverage": _worst(min, known, "coverage"),
        "coverage_of_visible": _worst(min, known, "coverage_of_visible"),
        "clean_reconstruction_mean": _mean(known, "reconstruction"),
        "clean_reconstruction": _worst(min, known, "reconstruction"),
        "clean_without_score": sum(bool(row.get("reasons")) for row in (*known, *unknown)),
        "wall_seconds": _worst(max, known, "seconds"),
        "gib": _worst(max, known, "gib"),
    }
    spent = [row["cpu_seconds"] / max(1.0, row["volume"] / _CLIP_VOLUME) for row in known if row.get("cpu_seconds")]
    summary["seconds"] = max(spent, default=None)
    found = separation or {}
    return {**summary, "pairs": found.get("pairs"), "auc_pooled": found.get("auc_pooled")}


def check_bars(summary: Row) -> dict[str, dict[str, Any]]:
    """Name -> value, bar in words, and whether it is passed (`None` where there is no value)."""
    checked = {}
    for name, (relation, bar) in BARS.items():
        value: float | None = summary.get(name)
        if value is None or math.isnan(value):
            value, passed = None, None
        else:
            passed = _COMPARE[relation](value, bar)
        checked[name] = {"value": value, "bar": f"{relation} {bar:g}", "passed": passed}
    return checked


def separate(rows: Sequence[Row], score: str) -> dict[str, Any]:
    """How far clean clips rank above broken ones by one score.

    Args:
        rows: With `clip`, `kind` (`"clean"` or a kind of `footage_corruptions`) and the score, NaN where there is none.
        score: Key of the score.

    Returns:
        `pairs`: share of the broken versions (hacks apart) that their own clean clip outranks, a tie counts half;
        `auc` of every kind against the clean clips it was made from; `auc_pooled` of all corruptions against all clean
        clips; the hacks' maximum beside the lowest clean clip; `without_score`: kind -> how many clips have none, which
        are in no other figure.
    """
    clean = {row["clip"]: row[score] for row in rows if row["kind"] == CLEAN}
    broken = [row for row in rows if row["kind"] in FOOTAGE_CORRUPTIONS]
    hacks = [row for row in rows if row["kind"] in FOOTAGE_HACKS]
    aucs = {}
    for kind in dict.fromkeys(row["kind"] for row in (*broken, *hacks)):
        group = [row for row in rows if row["kind"] == kind]
        aucs[kind] = auc([clean[row["clip"]] for row in group], [row[score] for row in group])
    wins = [auc([clean[row["clip"]]], [row[score]]) for row in broken]
    highest = _extreme(max, (row[score] for row in hacks))
    lowest = _extreme(min, clean.values())
    return {
        "pairs": mean(wins),
        "pairs_counted": sum(not math.isnan(win) for win in wins),
        "pairs_lost": [f"{row['clip']}: {row['kind']}" for row, win in zip(broken, wins, strict=True) if win < 1],
        "auc": aucs,
        "auc_pooled": auc(list(clean.values()), [row[score] for row in broken]),
        "hacks_highest": highest,
        "clean_lowest": lowest,
        "hacks_below_clean": None if math.isnan(highest + lowest) else highest < lowest,
        "without_score": dict(Counter(row["kind"] for row in rows if math.isnan(row[score]))),
    }


def compare_generated(real: Mapping[str, float], generated: Mapping[str, float]) -> dict[str, Any]:
    """Scores of real and of generated clips, scored the same way; NaN where a clip has none.

    Returns:
        The scores, the AUC of real above generated, and the lowest and highest ones that face each other.
    """
    return {
        "real": dict(real),
        "generated": dict(generated),
        "auc": auc(list(real.values()), list(generated.values())),
        "real_lowest": _extreme(min, real.values()),
        "generated_highest": _extreme(max, generated.values()),
    }


def _extreme(choose: Callable[..., float], values: Iterable[float]) -> float:
    return choose((value for value in values if not math.isnan(value)), default=math.nan)


def _values(rows: Sequence[Row], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None and not math.isnan(row[key])]


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = _values(rows, key)
    return sum(values) / len(values) if values else None


def _worst(choose: Callable[..., float], rows: Sequence[Row], key: str) -> float | None:
    return choose(_values(rows, key), default=None)
