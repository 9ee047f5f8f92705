"""Natural order of file names: `frame_2` before `frame_10`, `0.5` before `1`, `frame` before `frame (1)`.

A single name does not always say how its digits are meant: `1.10` is a decimal after `1.05` and a version after `1.9`.
`natural_sorted` looks at all names and decides; `natural_key` reads one name, with decimals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TypeVar

Item = TypeVar("Item")
Token = tuple[int, Decimal, str]
NaturalKey = tuple[list[list[Token]], str, str]

_SUFFIX = re.compile(r"(?<=.)\.[a-z][a-z0-9]{0,9}$", re.DOTALL)
_EXPONENT = r"e[+-]?[0-9]{1,3}(?![0-9a-z.])"
# A sign stands at the start of a name or behind `_` or `=`; elsewhere `-` separates: `frame-1`, `2024-01-31`.
_NUMBER = re.compile(
    rf"(?P<sign>(?:^|(?<=[_=]))[+-])?"
    rf"(?:(?<![0-9a-z.])(?P<scientific>[0-9]+(?:\.[0-9]+)?{_EXPONENT})|(?P<digits>[0-9]+(?:\.[0-9]+)*))"
)
_TRAILING_ZERO = re.compile(r"[0-9]0$")


def natural_key(name: str, *, decimals: bool = True) -> NaturalKey:
    """Sort key of a file name or path in which numbers count as numbers and case only breaks ties.

    Numbers may have a decimal point, an exponent (`1e-3`) and, at the start of a name or behind `_` or `=`, a sign.
    Dates and versions (`1.2.3`) are integers one after the other. The suffix is compared last, so that `frame.png`
    comes before `frame-1.png` and `frame (1).png`.

    Args:
        name: File name or path with `/`.
        decimals: Read `1.10` as a decimal number; otherwise as the integers 1 and 10.

    Example:
        >>> sorted(["b10.png", "b9.png", "A1.png"], key=natural_key)
        ['A1.png', 'b9.png', 'b10.png']
        >>> sorted(["1.5.png", "1.25.png", "-1.png", "1e-3.png"], key=natural_key)
        ['-1.png', '1e-3.png', '1.25.png', '1.5.png']
    """
    stem, suffix = _split_suffix(name.casefold())
    return [_tokens(part, decimals) for part in stem.split("/")], suffix, name


def natural_sorted(items: Iterable[Item], key: Callable[[Item], str] = str) -> list[Item]:
    """Items in the natural order of their names.

    `1.9, 1.10` are versions, since decimals of different lengths do not end in zero; all other numbers with one point
    are decimals.

    Args:
        items: File names, or anything that `key` gives a name.
        key: Name of an item; the item itself as text when left out.

    Example:
        >>> natural_sorted(["1.25.png", "frame (1).png", "0.5.png", "frame.png"])
        ['0.5.png', '1.25.png', 'frame.png', 'frame (1).png']
        >>> natural_sorted(["v1.10", "v1.9"])
        ['v1.9', 'v1.10']
    """
    items = list(items)
    decimals = _are_decimals([key(item) for item in items])
    return sorted(items, key=lambda item: natural_key(key(item), decimals=decimals))


def _split_suffix(name: str) -> tuple[str, str]:
    match = _SUFFIX.search(name)
    return (name, "") if match is None else (name[: match.start()], match[0])


def _tokens(text: str, decimals: bool) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    for match in _NUMBER.finditer(text):
        if match.start() > position:
            tokens.append((1, Decimal(0), text[position : match.start()]))
        tokens += [(0, number, "") for number in _numbers(match, decimals)]
        position = match.end()
    if position < len(text):
        tokens.append((1, Decimal(0), text[position:]))
    return tokens


def _numbers(match: re.Match[str], decimals: bool) -> list[Decimal]:
    sign = match["sign"] or ""
    whole = match["scientific"] or match["digits"]
    if match["scientific"] or (decimals and whole.count(".") == 1):
        return [Decimal(sign + whole)]
    first, *others = whole.split(".")
    return [Decimal(sign + first), *map(Decimal, others)]


def _are_decimals(names: Sequence[str]) -> bool:
    fractions = {
        match["digits"].split(".")[1]
        for name in names
        for match in _NUMBER.finditer(_split_suffix(name.casefold())[0])
        if match["digits"] and match["digits"].count(".") == 1
    }
    same_length = len({len(fraction) for fraction in fractions}) <= 1
    return same_length or not any(_TRAILING_ZERO.search(fraction) for fraction in fractions)
