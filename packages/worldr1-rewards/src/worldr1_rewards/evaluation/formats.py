"""Tables as Markdown and LaTeX, and all figures as CSV with one row per cell."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worldr1_core.paper_tables import LATEX_PREAMBLE, latex_table, markdown_table
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.statistics import Comparison
from worldr1_rewards.evaluation.summary import Cell, Summary
from worldr1_rewards.evaluation.tables import Table, published_note

MARK = "†"
"""Mark of published figures."""


def markdown(tables: Sequence[Table], warnings: Sequence[str]) -> str:
    """Return tables and warnings as GitHub-flavoured Markdown."""
    parts = [_markdown_table(table) for table in tables]
    parts.append(
        "Cells: mean and 95 % bootstrap interval over prompts. Differences are paired by prompt and number; `wins` is "
        "the share of pairs in which the method is better, `d` is Cohen's d, positive if the method is better."
    )
    if any(table.published for table in tables):
        parts.append(f"{MARK} {published_note()}")
    if warnings:
        parts.append("## Warnings\n\n" + "\n".join(f"- {warning}" for warning in warnings))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    text = f"## {table.title}\n\n{markdown_table(table.headings, table.rows)}"
    if table.published:
        headings = [f"published {MARK}", *table.headings[2:]]
        text += f"\n\n{markdown_table(headings, [[row[0], *row[2:]] for row in table.published])}"
    return text


def latex(tables: Sequence[Table]) -> str:
    r"""Return tables as LaTeX; they need `\usepackage{booktabs}`."""
    return "\n\n".join([LATEX_PREAMBLE, *map(_latex_table, tables)]) + "\n"


def _latex_table(table: Table) -> str:
    published = [[f"{row[0]}{MARK}", *row[1:]] for row in table.published]
    note = f"{MARK} {published_note()}" if published else ""
    return latex_table(table.title, table.headings, table.rows, below=published, note=note)


CSV_FIELDS = (
    *("split", "group", "method", "column", "higher_is_better", "unit"),
    *("mean", "low", "high", "num_videos", "num_values", "num_prompts", "num_failed", "num_inapplicable"),
    *("baseline", "difference", "difference_low", "difference_high", "num_pairs", "win_rate", "cohens_d", "published"),
)
"""Fields of the CSV file."""


def csv_text(summary: Summary, columns: Sequence[Column], baseline: str | None) -> str:
    """Return all measured cells as CSV, one row per split, group, method and column; missing numbers are empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cell_rows(summary, columns, baseline))
    return stream.getvalue()


def cell_rows(summary: Summary, columns: Sequence[Column], baseline: str | None) -> Iterator[dict[str, Any]]:
    """Return the cells as flat dictionaries with the keys `CSV_FIELDS`; a missing number is `None`."""
    for (split, group), methods in summary.cells.items():
        for method, cells in methods.items():
            for column in columns:
                comparison = summary.comparisons[split, group].get(method, {}).get(column.name)
                yield {
                    "split": split,
                    "group": group,
                    "method": method,
                    "column": column.name,
                    "higher_is_better": column.higher_is_better,
                    "unit": column.unit,
                    **_cell_fields(cells[column.name]),
                    **_comparison_fields(comparison, baseline),
                    "published": False,
                }


def _cell_fields(cell: Cell) -> Mapping[str, float | int | None]:
    found = cell.estimate
    return {
        "mean": finite(found.mean),
        "low": finite(found.low),
        "high": finite(found.high),
        "num_videos": cell.num_videos,
        "num_values": found.num_videos,
        "num_prompts": found.num_prompts,
        "num_failed": cell.num_failed,
        "num_inapplicable": cell.num_inapplicable,
    }


def _comparison_fields(comparison: Comparison | None, baseline: str | None) -> Mapping[str, float | str | None]:
    if comparison is None:
        return {}
    found = comparison.difference
    return {
        "baseline": baseline,
        "difference": finite(found.mean),
        "difference_low": finite(found.low),
        "difference_high": finite(found.high),
        "num_pairs": found.num_videos,
        "win_rate": finite(comparison.win_rate.mean),
        "cohens_d": finite(comparison.cohens_d),
    }


def finite(value: float) -> float | None:
    """Return the value, or `None` if it is NaN or infinite."""
    return value if math.isfinite(value) else None
