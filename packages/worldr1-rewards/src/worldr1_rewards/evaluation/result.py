"""`EvalResult`: records, statistics and tables of an evaluation."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldr1_core.errors import require
from worldr1_core.files import atomic_write_text
from worldr1_core.provenance import versions
from worldr1_rewards.evaluation import formats
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.page import evaluation_page
from worldr1_rewards.evaluation.published import published_tables
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.sections import read_sections
from worldr1_rewards.evaluation.statistics import Comparison, Estimate
from worldr1_rewards.evaluation.summary import Summary, summarise
from worldr1_rewards.evaluation.tables import Table, make_tables

RESULTS, CSV, MARKDOWN, LATEX, PAGE = "results.json", "table.csv", "table.md", "table.tex", "report.html"
"""Files of an evaluation, beside the records."""


@dataclass(frozen=True)
class EvalResult:
    """Result of `worldr1_rewards.evaluate`.

    Attributes:
        videos: One record per video, ordered by method, prompt and seed.
        columns: Columns that were measured.
        baseline: Method that the others are compared with, or `None`.
        metrics: Names of the metrics.
        settings: Options of the metrics, reconstructor and device.
    """

    videos: Sequence[VideoRecord]
    columns: Sequence[Column]
    baseline: str | None = None
    metrics: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Names of the sets of videos."""
        return list(dict.fromkeys(record.method for record in self.videos))

    @functools.cached_property
    def summary(self) -> Summary:
        """Cells, comparisons, correlations and warnings."""
        return summarise(self.videos, self.columns, self.baseline)

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences about what the figures do not show."""
        return self.summary.warnings

    @property
    def num_failed(self) -> int:
        """Videos that could not be measured at all."""
        return sum(record.error is not None for record in self.videos)

    def means(self) -> dict[str, dict[str, float | None]]:
        """Return method -> column -> mean; `None` without any value."""
        return {
            method: {name: formats.finite(cell.estimate.mean) for name, cell in cells.items()}
            for method, cells in self.summary.cells["all", "all"].items()
        }

    def tables(self, *, with_groups: bool = True) -> list[Table]:
        """Return the tables in plain cells; those of groups (camera moves, scenes) may be left out."""
        return make_tables(self.summary, self.columns, self.baseline, with_groups=with_groups)

    def to_markdown(self, *, with_groups: bool = True) -> str:
        """Return tables and warnings as Markdown; the tables of groups (camera moves, scenes) may be left out."""
        return formats.markdown(self.tables(with_groups=with_groups), self.warnings)

    def to_latex(self) -> str:
        """Return the tables as LaTeX, for the package booktabs."""
        return formats.latex(self.tables())

    def to_pandas(self, *, videos: bool = False) -> Any:
        """Return a `pandas.DataFrame`.

        Args:
            videos: One row per video, with a column per metric, instead of one row per cell of the tables.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = require("pandas", extra="worldr1-rewards[eval]")
        if not videos:
            return pandas.DataFrame(
                formats.cell_rows(self.summary, self.columns, self.baseline), columns=list(formats.CSV_FIELDS)
            )
        names = [column.name for column in self.columns]
        keys = ("method", "video", "prompt", "prompt_index", "seed", "move", "scene", "error", "num_frames", "seconds")
        rows = [
            {**{key: getattr(r, key) for key in keys}, **{name: r.values.get(name, float("nan")) for name in names}}
            for r in self.videos
        ]
        return pandas.DataFrame(rows, columns=[*keys, *names])

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain JSON data; missing numbers are `None`."""
        summary = self.summary
        return {
            "methods": self.methods,
            "baseline": self.baseline,
            "metrics": list(self.metrics),
            "columns": [asdict(column) for column in self.columns],
            "cells": list(formats.cell_rows(summary, self.columns, self.baseline)),
            "comparisons": [
                {"split": split, "group": group, "method": method, "column": name, **_comparison(comparison)}
                for (split, group), methods in summary.comparisons.items()
                for method, own in methods.items()
                for name, comparison in own.items()
            ],
            "kendall_tau": [asdict(correlation) for correlation in summary.correlations],
            "warnings": list(summary.warnings),
            "videos": [asdict(record) for record in self.videos],
            "published": _published(),
            "settings": self.settings,
            "versions": versions(),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Write `results.json`, `table.csv`, `table.md`, `table.tex` and `report.html`.

        Args:
            folder: Created if it does not exist. The page shows the pictures that the evaluation has written there.

        Returns:
            The files written.

        Raises:
            OutputError: The folder cannot be written.
        """
        contents = {
            CSV: formats.csv_text(self.summary, self.columns, self.baseline),
            MARKDOWN: self.to_markdown(),
            LATEX: self.to_latex(),
            PAGE: self._page(Path(folder)),
            RESULTS: json.dumps(self.as_data(), indent=1, ensure_ascii=True, allow_nan=False) + "\n",
        }
        for name, text in contents.items():
            atomic_write_text(Path(folder) / name, text.encode("utf-8", "backslashreplace").decode("utf-8"))
        return [Path(folder) / name for name in contents]

    def _page(self, folder: Path) -> str:
        sections = read_sections(folder, [record.fingerprint for record in self.videos])
        return evaluation_page(self.tables(), self.warnings, self.videos, self.columns, versions(), sections)


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "difference": _estimate(comparison.difference),
        "win_rate": _estimate(comparison.win_rate),
        "cohens_d": formats.finite(comparison.cohens_d),
        "needed_prompts": comparison.needed_prompts,
        "is_clear": comparison.is_clear,
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {key: formats.finite(value) for key, value in asdict(estimate).items()}


def _published() -> dict[str, Any]:
    found = published_tables()
    return {
        "published": True,
        "source": found.source,
        "note": found.note,
        "rows": [asdict(row) for row in found.rows],
    }
