"""JSON files written by hand or by other tools: read with messages that say where the mistake is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from worldr1_core.errors import TrajectoryError
from worldr1_core.files import atomic_write_text

JsonObject = dict[str, Any]


def read_json(path: Path) -> Any:
    """Parse a JSON file whose top level is an object or a list.

    Raises:
        TrajectoryError: It cannot be read, is no JSON (with line and column), or its top level is something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise TrajectoryError(
            f"{path}: line {error.lineno}, column {error.colno}: is no valid JSON: {error.msg}."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise TrajectoryError(f"{path}: cannot be read as text: {error}.") from error
    if not isinstance(document, (dict, list)):
        raise TrajectoryError(f"{path}: must hold a JSON object, received {document!r}.")
    return document


def write_json(document: JsonObject, path: Path) -> None:
    """Write an object with one key and one matrix per line, so that people can read and edit it.

    Raises:
        OutputError: The place cannot be written to.
    """
    entries = [f"  {json.dumps(key)}: {_format(value)}" for key, value in document.items()]
    atomic_write_text(path, "{\n" + ",\n".join(entries) + "\n}\n")


def _format(value: Any) -> str:
    rows_of_rows = isinstance(value, list) and value and isinstance(value[0], (dict, list)) and bool(value[0])
    if not rows_of_rows:
        return json.dumps(value)
    return "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in value) + "\n  ]"
