"""Tables of an evaluation in plain cells, before they are written as Markdown or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.published import published_tables
from worldr1_rewards.evaluation.statistics import Comparison
from worldr1_rewards.evaluation.summary import ALL, Cell, Group, Summary
from worldr1_rewards.evaluation.vbench_dimensions import DIMENSIONS, PAPER_DIMENSIONS, vbench_column

SECTIONS: Sequence[tuple[str, str | None, tuple[str, ...]]] = (
    ("3D consistency", "3d_consistency", ("psnr", "psnr_normalised", "ssim", "lpips", "consistency")),
    (
        "VBench dimensions",
        "vbench",
        (
            *PAPER_DIMENSIONS,
            "flow_smoothness",
            *map(vbench_column, DIMENSIONS),
        ),
    ),
    (
        "Camera",
        "camera",
        (
            *("rot_err", "trans_err", "cam_mc", "ate", "rpe_trans", "rpe_rot", "camera_accuracy", "trajectory"),
            *(f"{kind}_auc_{limit}" for kind in ("rot", "trans") for limit in (5, 15, 30)),
        ),
    ),
    ("Other metrics", None, ()),
)
"""Title, published table and columns of every section; the last one takes the remaining columns."""

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells.

    Attributes:
        title: Caption.
        headings: One per column; the first is that of the methods.
        rows: Measured rows.
        published: Rows of published figures, which are marked as such.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    published: Sequence[Sequence[str]] = field(default_factory=tuple)


def make_tables(
    summary: Summary, columns: Sequence[Column], baseline: str | None, *, with_groups: bool = True
) -> list[Table]:
    """Return the tables of an evaluation, section by section: measured, compared, and split by group.

    Columns without any value, because nothing they measure applies to the videos, are left out.

    Args:
        summary: Statistics.
        columns: Columns, in order.
        baseline: Method that the others are compared with, or `None`.
        with_groups: Add a table for every camera move and kind of scene.
    """
    tables: list[Table] = []
    for title, published, own in _sections(summary, columns):
        tables.append(_measured(title, summary.cells[ALL], own, published))
        if baseline is not None and any(summary.comparisons[ALL].values()):
            tables.append(_compared(f"{title}: difference from {baseline}", summary.comparisons[ALL], own))
    for group in summary.cells:
        if with_groups and group != ALL:
            shown = [column for _, _, own in _sections(summary, columns) for column in own]
            tables.append(_measured(_group_title(group), summary.cells[group], shown, None))
    return tables


def published_note() -> str:
    """Return the sentence that must stand below published rows."""
    published = published_tables()
    return f"Published: {published.source}. {published.note}"


def _sections(summary: Summary, columns: Sequence[Column]) -> list[tuple[str, str | None, list[Column]]]:
    known = [c for c in columns if any(_has_content(row[c.name]) for row in summary.cells[ALL].values())]
    placed = {name for _, _, names in SECTIONS for name in names}
    found = []
    for title, published, names in SECTIONS:
        own = [column for column in known if (column.name in names if names else column.name not in placed)]
        if own:
            found.append((title, published, own))
    return found


def _has_content(cell: Cell) -> bool:
    return cell.estimate.num_videos > 0 or cell.num_failed > 0


def _group_title(group: Group) -> str:
    split, name = group
    return f"{'Camera move' if split == 'move' else 'Scene'}: {name}"


def _measured(
    title: str, cells: Mapping[str, Mapping[str, Cell]], columns: Sequence[Column], published: str | None
) -> Table:
    headings = ["method", "videos", *(column.heading for column in columns)]
    rows = []
    for method, own in cells.items():
        count = max((cell.num_videos for cell in own.values()), default=0)
        rows.append([method, str(count), *(_cell_text(own[column.name], column) for column in columns)])
    return Table(title, headings, rows, _published_rows(published, columns))


def _cell_text(cell: Cell, column: Column) -> str:
    found = cell.estimate
    if found.num_videos == 0:
        return f"{MISSING} ({cell.num_failed} failed)" if cell.num_failed else MISSING
    text = column.shown(found.mean)
    if not math.isnan(found.low):
        text += f" [{column.shown(found.low)}, {column.shown(found.high)}]"
    notes = [f"{cell.num_failed} failed"] if cell.num_failed else []
    if found.num_videos < cell.num_videos - cell.num_failed:
        notes.append(f"of {found.num_videos}")
    return f"{text} ({', '.join(notes)})" if notes else text


def _published_rows(table: str | None, columns: Sequence[Column]) -> list[list[str]]:
    if table is None:
        return []
    by_name = {column.name: column for column in columns}
    return [
        [row.method, MISSING, *(_published_cell(row.values.get(name), column) for name, column in by_name.items())]
        for row in published_tables().table(table, by_name)
    ]


def _published_cell(value: float | None, column: Column) -> str:
    return MISSING if value is None else f"{value:.{column.digits}f}"


def _compared(title: str, comparisons: Mapping[str, Mapping[str, Comparison]], columns: Sequence[Column]) -> Table:
    headings = ["method", *(column.heading for column in columns)]
    rows = [
        [method, *(_comparison_text(own.get(column.name), column) for column in columns)]
        for method, own in comparisons.items()
    ]
    return Table(title, headings, rows)


def _comparison_text(comparison: Comparison | None, column: Column) -> str:
    if comparison is None:
        return MISSING
    found = comparison.difference
    text = _signed(column, found.mean)
    if not math.isnan(found.low):
        text += f" [{_signed(column, found.low)}, {_signed(column, found.high)}]"
    effect = "" if math.isnan(comparison.cohens_d) else f", d {comparison.cohens_d:+.2f}"
    return f"{text}; wins {comparison.win_rate.mean:.0%}{effect}{'' if comparison.is_clear else '; unclear'}"


def _signed(column: Column, value: float) -> str:
    return f"{value * column.scale:+.{column.digits}f}"
