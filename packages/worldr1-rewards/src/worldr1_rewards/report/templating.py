"""The Jinja environment of every HTML page: whatever is inserted is escaped, since prompts and names may hold anything.

Templates live in `worldr1_rewards/templates`. A value enters a page as text, unless a template of this environment made
it (`markupsafe.Markup`).
"""

from __future__ import annotations

import functools
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worldr1_rewards.report.words import number, plain, score_text, seconds

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render(template: str, **values: Any) -> Markup:
    """Render a template of this package.

    Args:
        template: File name in `worldr1_rewards/templates`.
        **values: Its variables; a missing one is an error.

    Returns:
        Markup, which other templates insert as it is.

    Example:
        >>> str(render("probe_heading.html.j2", title="<b>"))
        '<h2 style="font-size:24px;margin:24px 0 12px">&lt;b&gt;</h2>'
    """
    return Markup(_environment().get_template(template).render(**values))


def breakable(name: str) -> Markup:
    """A name that may wrap after its punctuation.

    Example:
        >>> breakable("a/b.mp4")
        Markup('a/<wbr>b.<wbr>mp4')
    """
    return Markup("<wbr>").join(re.split(r"(?<=[_./\\-])(?=\w)", _without_controls(name)))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("worldr1_rewards", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "number": number,
        "plain": plain,
        "score": score_text,
        "seconds": seconds,
    }
    return environment


def _without_controls(value: object) -> str:
    """Text with U+FFFD for control characters and lone surrogates, which HTML cannot express; markup as it is."""
    return value if isinstance(value, Markup) else _UNSAFE.sub("\ufffd", str(value))
