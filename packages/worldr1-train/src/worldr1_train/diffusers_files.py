"""Configuration files of a diffusers checkpoint, from a folder or the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from worldr1_core.weights_source import WeightsSource


def read_json(source: WeightsSource, filename: str) -> dict[str, Any]:
    """Read a JSON file of a checkpoint, downloaded from the hub if necessary.

    Raises:
        WeightsError: The file is missing or unreachable, or is not a JSON object.
    """
    from transformers.utils import cached_file

    try:
        path = source.path / filename if source.is_local else cached_file(source.name, filename, **source.where)
        content = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise source.fail(filename, error) from error
    if not isinstance(content, dict):
        raise source.fail(filename, f"it contains a {type(content).__name__}, expected a JSON object")
    return content
