"""Summary of the records of an evaluation: cells, paired comparisons with a baseline, correlations and warnings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.statistics import Comparison, Estimate, compare_pairs, estimate_mean
from worldr1_rewards.probes.rank_statistics import kendall_tau

ALL = ("all", "all")
"""Split and group of all videos."""
FEW_PROMPTS = 20
"""Number of prompts below which intervals are too rough for a claim."""
STILL_PSNR = 60.0
"""PSNR in dB of a re-render that only a clip without motion reaches."""
SUMS = ("rot_err", "trans_err", "cam_mc")
"""Columns that are sums over the frames."""

Group = tuple[str, str]
"""Split (`"all"`, `"move"` or `"scene"`) and group within it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One method in one column.

    Attributes:
        estimate: Mean with interval over the videos that have a value.
        num_videos: Videos of the method in the group.
        num_failed: Videos for which the column could not be measured, unreadable ones included.
        num_inapplicable: Videos for which the column makes no sense.
    """

    estimate: Estimate
    num_videos: int
    num_failed: int
    num_inapplicable: int


@dataclass(frozen=True, slots=True)
class Correlation:
    """Kendall's tau of two columns over all videos that have both, each turned so that higher is better."""

    first: str
    second: str
    tau: float
    num_videos: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of an evaluation.

    Attributes:
        cells: Group -> method -> column -> cell.
        comparisons: Group -> method -> column -> comparison with the baseline; empty without a baseline.
        correlations: Of every two columns.
        warnings: Sentences about what the figures do not show.
    """

    cells: Mapping[Group, Mapping[str, Mapping[str, Cell]]]
    comparisons: Mapping[Group, Mapping[str, Mapping[str, Comparison]]]
    correlations: Sequence[Correlation]
    warnings: Sequence[str]


def summarise(records: Sequence[VideoRecord], columns: Sequence[Column], baseline: str | None = None) -> Summary:
    """Compute all statistics of an evaluation.

    Args:
        records: One per video.
        columns: Columns, in the order of tables.
        baseline: Method that the others are compared with, pair by pair; `None` for no comparison.
    """
    methods = list(dict.fromkeys(record.method for record in records))
    groups = _groups(records)
    cells = {
        group: {method: {c.name: _cell(_of(members, method), c.name) for c in columns} for method in methods}
        for group, members in groups.items()
    }
    others = [] if baseline is None else [method for method in methods if method != baseline]
    comparisons = {
        group: {method: _compare(_of(members, method), _of(members, baseline), columns) for method in others}
        for group, members in groups.items()
    }
    return Summary(
        cells, comparisons, _correlations(records, columns), _warnings(records, columns, comparisons[ALL], baseline)
    )


def _groups(records: Sequence[VideoRecord]) -> dict[Group, list[VideoRecord]]:
    """All videos, and their groups by camera move and by scene where there are several."""
    groups = {ALL: list(records)}
    for split in ("move", "scene"):
        names = sorted({name for record in records if (name := getattr(record, split)) is not None})
        if len(names) > 1:
            groups |= {(split, name): [r for r in records if getattr(r, split) == name] for name in names}
    return groups


def _of(records: Sequence[VideoRecord], method: str | None) -> list[VideoRecord]:
    return [record for record in records if record.method == method]


def _cell(records: Sequence[VideoRecord], column: str) -> Cell:
    known = [record for record in records if column in record.values]
    return Cell(
        estimate=estimate_mean([r.values[column] for r in known], [r.prompt_index for r in known]),
        num_videos=len(records),
        num_failed=sum(r.error is not None or column in r.failures for r in records),
        num_inapplicable=sum(column in r.inapplicable for r in records),
    )


def _compare(
    records: Sequence[VideoRecord], baseline: Sequence[VideoRecord], columns: Sequence[Column]
) -> dict[str, Comparison]:
    others = {record.pair: record for record in baseline}
    found = {}
    for column in columns:
        name = column.name
        both = [
            (record, others[record.pair])
            for record in records
            if record.pair in others and name in record.values and name in others[record.pair].values
        ]
        if both:
            found[name] = compare_pairs(
                [own.values[name] for own, _ in both],
                [other.values[name] for _, other in both],
                [own.prompt_index for own, _ in both],
                higher_is_better=column.higher_is_better,
            )
    return found


def _correlations(records: Sequence[VideoRecord], columns: Sequence[Column]) -> list[Correlation]:
    found = []
    signs = {column.name: 1 if column.higher_is_better else -1 for column in columns}
    for first, second in itertools.combinations(signs, 2):
        both = [record.values for record in records if first in record.values and second in record.values]
        tau = kendall_tau([signs[first] * v[first] for v in both], [signs[second] * v[second] for v in both])
        if not math.isnan(tau):
            found.append(Correlation(first, second, tau, len(both)))
    return found


def _warnings(
    records: Sequence[VideoRecord],
    columns: Sequence[Column],
    comparisons: Mapping[str, Mapping[str, Comparison]],
    baseline: str | None,
) -> list[str]:
    methods = list(dict.fromkeys(record.method for record in records))
    return [
        *_few_prompts(records, methods),
        *_unpaired(records, methods, baseline),
        *_unequal_lengths(records, columns),
        *_failures(records, methods),
        *_still(records, methods),
        *_unclear(comparisons, columns, baseline),
    ]


def _few_prompts(records: Sequence[VideoRecord], methods: Sequence[str]) -> list[str]:
    few = min(len({r.prompt_index for r in _of(records, method)}) for method in methods)
    if few >= FEW_PROMPTS:
        return []
    return [
        f"Only {few} prompt{'' if few == 1 else 's'}: intervals are rough, and differences between methods should not "
        f"be claimed. Use at least {FEW_PROMPTS} prompts."
    ]


def _unpaired(records: Sequence[VideoRecord], methods: Sequence[str], baseline: str | None) -> list[str]:
    if baseline is None:
        return []
    reference = {record.pair for record in _of(records, baseline)}
    found = []
    for method in methods:
        alone = len({record.pair for record in _of(records, method)} ^ reference)
        if alone:
            found.append(
                f"{alone} videos of {method} and {baseline} have no counterpart of equal prompt and number in the "
                "other set; comparisons leave them out."
            )
    return found


def _unequal_lengths(records: Sequence[VideoRecord], columns: Sequence[Column]) -> list[str]:
    lengths = sorted({record.num_frames for record in records if record.num_frames})
    sums = [column.label or column.name for column in columns if column.name in SUMS]
    if len(lengths) < 2 or not sums:
        return []
    return [
        f"Videos have {lengths[0]} to {lengths[-1]} frames, and {', '.join(sums)} are sums over the frames: they are "
        "not comparable between videos of different lengths."
    ]


def _failures(records: Sequence[VideoRecord], methods: Sequence[str]) -> list[str]:
    found = []
    for method in methods:
        own = _of(records, method)
        unread = [record for record in own if record.error is not None]
        if unread:
            found.append(
                f"{len(unread)} of {len(own)} videos of {method} could not be measured at all (first: "
                f"{unread[0].error}); means leave them out."
            )
    return found


def _still(records: Sequence[VideoRecord], methods: Sequence[str]) -> list[str]:
    found = []
    for method in methods:
        own = _of(records, method)
        still = sum(record.values.get("psnr", 0.0) >= STILL_PSNR for record in own)
        if still:
            found.append(
                f"{still} of {len(own)} videos of {method} hardly move: equal frames are re-rendered perfectly, and "
                "PSNR, SSIM and LPIPS say nothing about them. Read the camera columns, consistency or motion."
            )
    return found


def _unclear(
    comparisons: Mapping[str, Mapping[str, Comparison]], columns: Sequence[Column], baseline: str | None
) -> list[str]:
    labels = {column.name: column.label or column.name for column in columns}
    found = []
    for method, own in comparisons.items():
        unclear = [
            labels[name] + ("" if c.needed_prompts is None else f" (about {c.needed_prompts} prompts needed)")
            for name, c in own.items()
            if not c.is_clear
        ]
        if unclear:
            found.append(
                f"{method} and {baseline} cannot be told apart by: {', '.join(unclear)}. The 95 % intervals of these "
                "differences contain 0, or there are too few prompts."
            )
    return found
