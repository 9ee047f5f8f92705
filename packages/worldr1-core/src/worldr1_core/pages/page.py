"""The page around a report: one self-contained HTML file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources

from markupsafe import Markup

from worldr1_core.pages.templating import SHARED

_STYLES = ("page.css", "players.css")
_SCRIPTS = ("table.js", "player.js", "scene.js")
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src data: blob:; "
    "style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
)
"""Only the page's very script may run: markup that slipped through the escaping would still be inert."""


def html_page(
    title: str,
    *,
    summary: Markup,
    body: Markup,
    versions: Mapping[str, str],
    manifest: str | None,
    body_name: str = "clips",
) -> str:
    """The whole page.

    Args:
        title: Heading.
        summary: The first section.
        body: The second section.
        versions: Name -> version, shown at the end.
        manifest: Text of the manifest that was used, shown at the end; left out if `None`.
        body_name: One word for what the second section holds, in lower case.
    """
    script = Markup().join(_data(name) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    page = SHARED.render(
        "page.html.j2",
        title=title,
        style=Markup().join(_data(name) for name in _STYLES),
        script=script,
        policy=_POLICY.format(digest=digest),
        summary=summary,
        body=body,
        name=body_name,
        versions=versions,
        manifest=manifest,
    )
    return f"{page}\n"


def _data(name: str) -> Markup:
    """A file of this package, which a page takes as it is."""
    return Markup(resources.files("worldr1_core.pages").joinpath(name).read_text(encoding="utf-8"))
