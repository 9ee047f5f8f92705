"""Figures that others have published, as data of the package. They are shown beside measured ones, never mixed in."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources

FILE = "published.json"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of a published table.

    Attributes:
        table: Which table: `"3d_consistency"`, `"vbench"`, `"camera"`, `"mvcs"`, `"3d_consistency_121_frames"` or
            `"ablations"`.
        method: Name of the method.
        values: Column -> figure, in the unit in which it is printed.
    """

    table: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PublishedTables:
    """Published figures.

    Attributes:
        source: Where they are published.
        note: What must be known to read them.
        rows: All rows.
    """

    source: str
    note: str
    rows: tuple[PublishedRow, ...]

    def table(self, name: str, columns: Collection[str]) -> list[PublishedRow]:
        """Return the rows of a table, with the given columns alone; rows without any of them are left out.

        Example:
            >>> row = published_tables().table("3d_consistency", ["psnr"])[0]
            >>> row.method, row.values
            ('CogVideoX-1.5-5B', {'psnr': 24.44})
        """
        rows = [
            PublishedRow(name, row.method, {key: value for key, value in row.values.items() if key in columns})
            for row in self.rows
            if row.table == name
        ]
        return [row for row in rows if row.values]


@functools.cache
def published_tables() -> PublishedTables:
    """Read the published figures that are shipped with the package."""
    text = resources.files("worldr1_rewards.evaluation").joinpath(FILE).read_text(encoding="utf-8")
    content = json.loads(text)
    rows = tuple(PublishedRow(row["table"], row["method"], row["values"]) for row in content["rows"])
    return PublishedTables(content["source"], content["note"], rows)
