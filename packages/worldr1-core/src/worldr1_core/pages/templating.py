"""The Jinja environment of every HTML page: whatever is inserted is escaped, since prompts and names may hold anything.

A package keeps its templates in its folder `templates` and renders them through a `Templates` object of its own; the
templates that all pages share live beside this module. A value enters a page as text, unless a template made it
(`markupsafe.Markup`).
"""

from __future__ import annotations

import functools
import re
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worldr1_core.pages.words import duration, number, plain, score_text, seconds

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Templates:
    """Templates of a package, together with those that all pages share.

    Args:
        package: Import name of a package with a folder `templates`; the shared templates alone if `None`.
    """

    def __init__(self, package: str | None = None) -> None:
        self.package = package

    def render(self, template: str, **values: Any) -> Markup:
        """Render a template.

        Args:
            template: File name in the package's folder `templates`, or of a shared template.
            **values: Its variables; a missing one is an error.

        Returns:
            Markup, which other templates insert as it is.
        """
        return Markup(self._environment.get_template(template).render(**values))

    @functools.cached_property
    def _environment(self) -> Environment:
        loaders = [PackageLoader("worldr1_core", "pages/templates")]
        if self.package is not None:
            loaders.insert(0, PackageLoader(self.package, "templates"))
        environment = Environment(
            loader=ChoiceLoader(loaders),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_without_controls,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "breakable": breakable,
            "duration": duration,
            "number": number,
            "plain": plain,
            "score": score_text,
            "seconds": seconds,
        }
        return environment


SHARED = Templates()
"""The templates that all pages share."""


def breakable(name: str) -> Markup:
    """A name that may wrap after its punctuation.

    Example:
        >>> breakable("a/b.mp4")
        Markup('a/<wbr>b.<wbr>mp4')
    """
    return Markup("<wbr>").join(re.split(r"(?<=[_./\\-])(?=\w)", _without_controls(name)))


def _without_controls(value: object) -> str:
    """Text with U+FFFD for control characters and lone surrogates, which HTML cannot express; markup as it is."""
    return value if isinstance(value, Markup) else _UNSAFE.sub("\ufffd", str(value))
