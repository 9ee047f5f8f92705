"""The page around a report: one self-contained HTML file that loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from string import Template

from worldr1_rewards.report.markup import definitions, text


def html_page(title: str, *, summary: str, body: str, footer: str, body_name: str = "clips") -> str:
    """The whole page.

    Args:
        title: Heading, as plain text.
        summary: Markup of the first section.
        body: Markup of the second.
        footer: Markup at the end, see `provenance`.
        body_name: One word for what the second section holds, in lower case.
    """
    script = _data("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return Template(_data("page.html")).substitute(
        title=text(title),
        style=_data("report.css"),
        script=script,
        # Only this very script may run: markup that slipped through the escaping would still be inert.
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        summary=summary,
        body=body,
        name=text(body_name),
        label=text(body_name.capitalize()),
        provenance=footer,
    )


def provenance(versions: Mapping[str, str], manifest: str | None) -> str:
    """Versions and the manifest's text, as markup."""
    parts = [f"<h2>Versions</h2>{definitions(versions)}"] if versions else []
    if manifest is not None:
        parts.append(
            '<h2>Manifest</h2><pre tabindex="0" role="region" aria-label="Manifest">'
            f"<code>{text(manifest.strip())}</code></pre>"
        )
    return "".join(parts)


def _data(name: str) -> str:
    return resources.files("worldr1_rewards.report").joinpath(name).read_text(encoding="utf-8")
