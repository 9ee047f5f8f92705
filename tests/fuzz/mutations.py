"""Damage to valid inputs: bytes that are changed, moved or repeated, and JSON with odd values."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

ODD_NUMBERS = (0, -1, 1, 2, 7, 255, 2**31 - 1, 2**31, 2**32, 2**40, 2**53, 2**63, 2**64, 10**30, -(2**63))
ODD_FLOATS = (float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -0.0, 0.5, 1e-9)
ODD_TEXTS = (
    "",
    " ",
    "\0",
    "a" * 300,
    "../../etc/passwd",
    "\ud800",
    "NaN",
    "é\n",
    "{{7*7}}",
    "!!python/object:os.system",
)
ODD_TREES: tuple[Any, ...] = (None, True, [], {}, [[]], [1, [2, [3]]], {"a": {"b": []}})
ODD_VALUES: tuple[Any, ...] = (*ODD_NUMBERS, *ODD_FLOATS, *ODD_TEXTS, *ODD_TREES)
ODD_BYTES = bytes((0, 1, 9, 10, 32, 34, 44, 45, 46, 48, 57, 58, 91, 123, 127, 128, 255))


def damage(draw: Random, data: bytes) -> bytes:
    """Apply up to five edits to bytes."""
    for _ in range(draw.randint(1, 5)):
        at = draw.randint(0, len(data))
        length = draw.randint(1, 40)
        odd = bytes(draw.choices(ODD_BYTES, k=draw.randint(1, 8))) if draw.random() < 0.5 else draw.randbytes(4)
        kind = draw.randint(0, 40)
        if kind < 20:
            data = data[:at] + odd[:1] + data[at + 1 :]
        elif kind < 25:
            data = data[:at] + odd + data[at + len(odd) :]
        elif kind < 30:
            data = data[:at] + odd + data[at:]
        elif kind < 35:
            data = data[:at] + data[at + length :]
        elif kind < 38:
            data = data[:at] + data[at : at + length] * draw.choice((2, 3, 200)) + data[at + length :]
        elif kind < 39:
            data = data[:at]
        else:
            other = draw.randint(0, len(data))
            data = data[:at] + data[other : other + length] + data[at + length :]
    return data


def damage_document(draw: Random, document: Any) -> Any:
    """Apply up to three changes to a copy of a JSON document: values are replaced, removed, added or repeated."""
    document = copy.deepcopy(document)
    for _ in range(draw.randint(1, 3)):
        spots = list(_spots(document))
        if not spots:
            return draw.choice(ODD_VALUES)
        container, key = draw.choice(spots)
        kind = draw.randint(0, 5)
        if kind == 0 and isinstance(container, list):
            container.append(container[key])
        elif kind == 0:
            container[f"{key}x"] = draw.choice(ODD_VALUES)
        elif kind == 1:
            del container[key]
        else:
            container[key] = copy.deepcopy(draw.choice(ODD_VALUES))
    return document


def _spots(document: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(document, dict | list):
        for key in list(document) if isinstance(document, dict) else range(len(document)):
            yield document, key
            yield from _spots(document[key])


def dump(document: Any) -> bytes:
    """JSON as bytes, with NaN and lone surrogates as Python writes them."""
    return json.dumps(document).encode("utf-8", "surrogatepass")
