"""Comparison with recorded values.

Processors and versions of torch round differently, so values agree within a tolerance. It is far below what another
seed, another order of operations or a missing step would change. Set `WORLDR1_RECORD=1` to write the records again
after an intended change.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "records"


def check_record(name: str, found: dict[str, Any], *, relative: float = 1e-6, absolute: float = 1e-9) -> None:
    """Compare plain data with the record of that name, number by number.

    Raises:
        AssertionError: Keys, texts or lengths differ, or numbers differ by more than the tolerance.
    """
    path = FOLDER / f"{name}.json"
    found = json.loads(json.dumps(found))
    if os.environ.get("WORLDR1_RECORD"):
        path.parent.mkdir(exist_ok=True)
        text = re.sub(r"\[[^][{}]*\]", lambda row: " ".join(row[0].split()), json.dumps(found, indent=1))
        path.write_text(text + "\n", encoding="utf-8")
    differences = list(_differences(json.loads(path.read_text(encoding="utf-8")), found, "", relative, absolute))
    assert not differences, f"{name}: {len(differences)} values differ, first: {differences[:8]}"


def _differences(expected: Any, found: Any, key: str, relative: float, absolute: float) -> list[str]:
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        pairs = [(f"{key}.{name}", expected[name], found[name]) for name in expected]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = [(f"{key}[{index}]", *pair) for index, pair in enumerate(zip(expected, found, strict=True))]
    elif isinstance(expected, float) and isinstance(found, float):
        close = math.isclose(expected, found, rel_tol=relative, abs_tol=absolute)
        return [] if close else [f"{key}: {found!r}, recorded {expected!r}"]
    else:
        return [] if expected == found else [f"{key}: {found!r}, recorded {expected!r}"]
    return [line for name, left, right in pairs for line in _differences(left, right, name, relative, absolute)]
