"""The page of an evaluation: one self-contained HTML file with tables, warnings and the figures of every video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worldr1_core.pages.page import html_page
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.tables import MISSING, Table, published_note
from worldr1_rewards.report.templating import render


def evaluation_page(
    tables: Sequence[Table],
    warnings: Sequence[str],
    videos: Sequence[VideoRecord],
    columns: Sequence[Column],
    versions: Mapping[str, str],
) -> str:
    """Return the page.

    Args:
        tables: Tables of the evaluation.
        warnings: Sentences above the tables.
        videos: One record per video.
        columns: Columns, in order.
        versions: Name -> version, shown at the end.
    """
    shown = [table for one in tables for table in (one, *_published(one))]
    return html_page(
        "Evaluation",
        summary=render(
            "evaluation_tables.html.j2",
            warnings=warnings,
            tables=shown,
            note=published_note() if any(table.published for table in tables) else "",
        ),
        body=render("evaluation_tables.html.j2", warnings=[], tables=[_videos(videos, columns)], note=""),
        versions=versions,
        manifest=None,
        body_name="videos",
    )


def _published(table: Table) -> list[Table]:
    """The published rows of a table as one of its own."""
    if not table.published:
        return []
    rows = [[row[0], *row[2:]] for row in table.published]
    return [Table(f"{table.title}: published figures, not measured here", ["method", *table.headings[2:]], rows)]


def _videos(videos: Sequence[VideoRecord], columns: Sequence[Column]) -> Table:
    own = [column for column in columns if any(column.name in v.values or column.name in v.failures for v in videos)]
    rows = [
        [f"{video.method}: {video.video}", video.prompt, *(_cell(video, column) for column in own), video.error or ""]
        for video in videos
    ]
    return Table("Videos", ["video", "prompt", *(column.heading for column in own), "error"], rows)


def _cell(video: VideoRecord, column: Column) -> str:
    value = MISSING if column.name not in video.values else column.shown(video.values[column.name])
    reason = video.failures.get(column.name)
    return value if reason is None else f"{value} ({reason})"
