"""Lists of clips for `worldr1 score`: `.csv` and `.jsonl` files, one clip a row.

A list with an error in any line is refused as a whole, because an unclosed quotation mark would turn the following rows
into one prompt.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from worldr1_core.errors import UserError, shorten, suggest
from worldr1_core.prompt_files import split_lines

LIST_SUFFIXES = (".csv", ".jsonl")
LIST_KEYS = ("video", "prompt", "trajectory", "intrinsics")


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row of a list.

    Attributes:
        where: File and line, `list.csv:3`.
        values: Key -> text, for the keys that are given and not empty; `video` is among them.
    """

    where: str
    values: dict[str, str]


def read_list(path: Path) -> list[ListRow]:
    """Read a list.

    Args:
        path: UTF-8 file with one of `LIST_SUFFIXES`: CSV with a header, or one JSON object a line; the keys are
            `LIST_KEYS`, of which only `video` is needed.

    Raises:
        UserError: The file cannot be read, is empty, or a line is malformed.
    """
    try:
        lines = split_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read as text: {error}.") from error
    read = _csv_rows if path.suffix.lower() == ".csv" else _jsonl_rows
    rows = [ListRow(where, _check_row(row, where)) for where, row in read(path, lines)]
    if not rows:
        raise UserError(f"List {str(path)!r} is empty. Give it a row for every video, with the keys {list(LIST_KEYS)}.")
    return rows


def _csv_rows(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    header: list[str] | None = None
    for where, values in _csv_records(path, lines):
        if header is None:
            header = values
            _check_header(header, where)
            continue
        if len(values) != len(header):
            raise UserError(
                f"{where}: the row has another number of fields ({len(values)}) than the header {header}. Put a value "
                "that holds a comma between quotation marks."
            )
        _check_swallowed_rows(values, header, where, path.parent)
        yield where, dict(zip(header, values, strict=True))


def _csv_records(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Place and fields of every record that is not blank."""
    reader = csv.reader((line + "\n" for line in lines), strict=True, skipinitialspace=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error)
            if "unexpected end of data" in reason:
                reason = "a quotation mark that is opened in this row is never closed"
            raise UserError(
                f"{where}: malformed CSV: {reason}. Put a value with commas or quotation marks between quotation "
                'marks, and write a quotation mark within it twice ("").'
            ) from error
        if values:
            yield where, values


def _check_header(header: list[str], where: str) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise UserError(f"{where}: received the header {header[0]!r}. Separate the columns by commas.")
    for key in header:
        _check_key(key, where)
    if repeated := sorted({key for key in header if header.count(key) > 1}):
        raise UserError(f"{where}: the header names {repeated} more than once: {header}. Keep one column of each.")
    if "video" not in header:
        raise UserError(f"{where}: key 'video' is missing from the header {header}. Allowed: {list(LIST_KEYS)}.")


def _check_swallowed_rows(values: list[str], header: list[str], where: str, folder: Path) -> None:
    """A value may hold line ends; a line of it that is a row with an existing video is a row, not a prompt."""
    column = header.index("video")
    for value in values:
        for line in split_lines(value)[1:]:
            fields = line.split(",")
            if len(fields) == len(header) and (video := fields[column].strip(' "')) and _exists(folder / video):
                raise UserError(
                    f"{where}: a quoted value of this row goes on to the row of {video!r}. Close its quotation marks."
                )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _jsonl_rows(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=partial(_object, where=where))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not a JSON object: {error}.") from error
        if not isinstance(row, dict):
            raise UserError(
                f"{where}: received {shorten(row)}; every line is an object with the keys {list(LIST_KEYS)}."
            )
        yield where, row


def _object(pairs: list[tuple[str, Any]], *, where: str) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"{where}: the object has {repeated} more than once. Keep one of each.")
    return dict(pairs)


def _check_row(row: dict[str, Any], where: str) -> dict[str, str]:
    for key, value in row.items():
        _check_key(key, where)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: {key!r} must be text, received {shorten(value)}.")
    if not row.get("video"):
        raise UserError(f"{where}: key 'video' is missing or empty. Allowed: {list(LIST_KEYS)}.")
    return {key: value for key, value in row.items() if value}


def _check_key(key: str, where: str) -> None:
    if key not in LIST_KEYS:
        raise UserError(f"{where}: unknown key {key!r}. Allowed: {list(LIST_KEYS)}.{suggest(key, LIST_KEYS)}")
