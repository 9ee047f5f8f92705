"""The result of a run as a table for people: every metric before and after."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

HEADINGS = ("metric", "before", "after", "change", "95 % interval")


def result_table(result: Mapping[str, Any], *, colours: bool = False) -> str:
    """The evaluations of a run as a table.

    Args:
        result: What `worldr1 train` prints: `before` and `after` (metric -> mean or `None`), and `change` (metric ->
            `mean`, `low` and `high` of the paired change).
        colours: Mark changes whose interval lies on one side of 0.

    Returns:
        Lines of text; empty if the run was not evaluated.
    """
    if not result["before"] or not result["after"]:
        return ""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if colours else box.ASCII2, show_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right", no_wrap=True)
    for name, before in result["before"].items():
        change = (result["change"] or {}).get(name)
        is_certain = change is not None and (change["low"] > 0 or change["high"] < 0)
        table.add_row(
            name,
            _number(before),
            _number(result["after"].get(name)),
            "-" if change is None else f"{change['mean']:+.4g}",
            "-" if change is None else f"{change['low']:+.4g} to {change['high']:+.4g}",
            style="bold" if colours and is_certain else None,
        )
    stream = io.StringIO()
    Console(file=stream, force_terminal=colours, width=120).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
