"""Plain tables on a terminal or in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_tables(tables: Iterable[tuple[str, Sequence[Mapping[str, Any]], Sequence[str]]]) -> None:
    """Print tables to stdout; a pipe gets every row on one line.

    Args:
        tables: Title, rows (column -> value; a list is joined by commas, `None` is empty) and the columns in their
            order. A table without rows is left out.
    """
    from rich.console import Console
    from rich.table import Table

    # Plain text: an extra such as `worldr1-rewards[hps]` in an error is no markup.
    console = Console(markup=False, emoji=False, highlight=False)
    console = console if console.is_terminal else Console(markup=False, emoji=False, highlight=False, width=10_000)
    for title, rows, columns in tables:
        if not rows:
            continue
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*[_cell(row[column]) for column in columns])
        console.print(table)
        console.print()


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
