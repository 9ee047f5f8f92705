"""Result of a run as a text table: the metrics, the effects of noise and training, and alarms."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

PLAIN_HEADINGS = ("metric", "before", "after", "change", "95 % interval", "")
NOISE_HEADINGS = ("metric", "plain noise", "noise only", "after", "by training", "95 % interval", "")
"""Headings with a noise conditioner: the model before training is then measured without and with it."""

UNCLEAR = "unclear"
"""Label of a change whose interval contains 0."""

MAX_WIDTH = 300
"""Maximum width of the table in characters; wider cells are cut."""

NUM_COLUMNS = 118
"""Width of the sentences below the table in characters."""


def result_table(result: Mapping[str, Any], *, colours: bool = False) -> str:
    """Format the evaluations of a run as a table, trained metrics first, and its alarms as sentences.

    Args:
        result: Result of `worldr1 train`: `before`, `noise_only` and `after` (metric -> mean or `None`), `change` and
            `change_by_training` (metric -> `mean`, `low` and `high` of the paired change), `trained` (names) and
            `alarms`. If `noise_only` is given, the table shows `change_by_training`.
        colours: Highlight rows whose interval does not contain 0, and alarms.

    Returns:
        Lines of text; empty if the run was not evaluated.
    """
    if not result["before"] or not result["after"]:
        return ""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    has_noise = bool(result.get("noise_only"))
    table = Table(box=box.SIMPLE_HEAD if colours else box.ASCII2, show_edge=False, pad_edge=False)
    headings = NOISE_HEADINGS if has_noise else PLAIN_HEADINGS
    for index, heading in enumerate(headings):
        is_text = index in (0, len(headings) - 1)
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    for title, names in _groups(result):
        if title:
            table.add_row(f"{title}:", *[""] * (len(headings) - 1), style="italic" if colours else None)
        for name in names:
            cells, style = _row(result, name, has_noise)
            table.add_row("  " * bool(title) + name, *cells, style=style if colours else None)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=colours, width=MAX_WIDTH, highlight=False)
    console.print(table)
    for line in _notes(result):
        style = "bold red" if colours and line.startswith("ALARM") else None
        console.print("", *textwrap.wrap(line, NUM_COLUMNS), sep="\n", style=style, markup=False)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _groups(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return titles and metrics: trained metrics and others, or one group without a title if there is only one kind."""
    trained = [name for name in result["before"] if name in result.get("trained", ())]
    others = [name for name in result["before"] if name not in trained]
    if not trained or not others:
        return [("", trained or others)]
    return [("trained on", trained), ("not trained on", others)]


def _row(result: Mapping[str, Any], name: str, has_noise: bool) -> tuple[list[str], str | None]:
    """Return the cells after the name of a metric, and the style of the row."""
    change = (result["change_by_training" if has_noise else "change"] or {}).get(name)
    means = [result["before"][name], *([result["noise_only"].get(name)] if has_noise else [])]
    cells = [_number(mean) for mean in (*means, result["after"].get(name))]
    if change is None:
        return [*cells, "-", "-", ""], None
    cells += [f"{change['mean']:+.3g}", f"{change['low']:+.3g} to {change['high']:+.3g}"]
    direction = "rose" if change["low"] > 0 else "fell" if change["high"] < 0 else UNCLEAR
    alarm = next((alarm for alarm in result.get("alarms", ()) if alarm["metric"] == name), None)
    if alarm is not None:
        share = "" if alarm["ratio"] is None else f" to {alarm['ratio']:.0%}"
        return [*cells, f"ALARM: {direction}{share}"], "bold red"
    return [*cells, direction], None if direction == UNCLEAR else "bold"


def _notes(result: Mapping[str, Any]) -> Sequence[str]:
    notes = []
    if result.get("noise_only"):
        notes.append(
            "`plain noise` and `noise only` show the model before training, without and with the manifest's noise "
            f"conditioner. `by training` is the change from `noise only` to `after`; it is `{UNCLEAR}` if its interval "
            "contains 0."
        )
    notes += [f"ALARM: {alarm['message']}" for alarm in result.get("alarms", ())]
    return notes


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
