"""The page of an evaluation: tables, warnings, the figures of every video, and pictures of some."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from markupsafe import Markup

from worldr1_core.pages.page import html_page
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.sections import anchor
from worldr1_rewards.evaluation.tables import MISSING, Table, published_note
from worldr1_rewards.report.templating import render

PICTURE_BUDGET = 48 * 2**20
"""Characters of sections with pictures that a page holds; later videos keep their figures in the table."""
_UNITS = re.compile(r"\[[^]]*\]|wins \S+|d [+-]\S+|\(\d+ failed\)")


def evaluation_page(
    tables: Sequence[Table],
    warnings: Sequence[str],
    videos: Sequence[VideoRecord],
    columns: Sequence[Column],
    versions: Mapping[str, str],
    sections: Mapping[str, Markup] | None = None,
) -> str:
    """Return the page.

    Args:
        tables: Tables of the evaluation.
        warnings: Sentences above the tables.
        videos: One record per video.
        columns: Columns, in order.
        versions: Name -> version, shown at the end.
        sections: Fingerprint -> section with pictures, for the videos that have one.
    """
    shown = [_unbroken(table) for one in tables for table in (one, *_published(one))]
    kept = _within_budget(sections or {})
    return html_page(
        "Evaluation",
        summary=render(
            "evaluation_tables.html.j2",
            warnings=warnings,
            tables=shown,
            note=published_note() if any(table.published for table in tables) else "",
        ),
        body=Markup().join([_videos(videos, columns, kept), *kept.values()]),
        versions=versions,
        manifest=None,
        body_name="videos",
    )


def _within_budget(sections: Mapping[str, Markup]) -> dict[str, Markup]:
    kept, size = {}, 0
    for fingerprint, section in sections.items():
        size += len(section)
        if size > PICTURE_BUDGET:
            break
        kept[fingerprint] = section
    return kept


def _published(table: Table) -> list[Table]:
    """The published rows of a table as one of its own, with the columns that have published figures."""
    if not table.published:
        return []
    kept = [place for place in range(2, len(table.headings)) if any(row[place] != MISSING for row in table.published)]
    rows = [[row[0], *(row[place] for place in kept)] for row in table.published]
    headings = ["method", *(table.headings[place] for place in kept)]
    return [Table(f"{table.title}: published figures, not measured here", headings, rows)]


def _unbroken(table: Table) -> Table:
    """The same table, whose intervals, shares and effect sizes each stay on one line."""
    return replace(
        table, rows=[[row[0], *(_UNITS.sub(_with_hard_spaces, cell) for cell in row[1:])] for row in table.rows]
    )


def _with_hard_spaces(found: re.Match[str]) -> str:
    return found[0].replace(" ", "\N{NO-BREAK SPACE}")


def _videos(videos: Sequence[VideoRecord], columns: Sequence[Column], sections: Mapping[str, Markup]) -> Markup:
    own = [column for column in columns if any(column.name in v.values or column.name in v.failures for v in videos)]
    return render(
        "evaluation_videos.html.j2",
        headings=[column.heading for column in own],
        has_errors=any(video.error for video in videos),
        num_shown=len(sections),
        rows=[
            {
                "name": f"{video.method}: {video.video}",
                "anchor": anchor(video.fingerprint) if video.fingerprint in sections else "",
                "prompt": video.prompt,
                "cells": [_cell(video, column) for column in own],
                "error": video.error or "",
            }
            for video in videos
        ],
    )


def _cell(video: VideoRecord, column: Column) -> dict[str, str]:
    value = video.values.get(column.name)
    return {
        "key": "" if value is None else json.dumps(value),
        "shown": MISSING if value is None else column.shown(value),
        "failure": video.failures.get(column.name, ""),
        "inapplicable": video.inapplicable.get(column.name, ""),
    }
