"""`worldr1 plugins`: installed plugins with location and version, and failures with their reasons."""

from __future__ import annotations

import json
import sys
from importlib import metadata, util
from typing import Any

import click

from worldr1_core.plugins import Installed, installed
from worldr1_core.registry import Owner
from worldr1_core.tables import print_tables


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plugins(as_json: bool) -> None:
    """List installed plugins, what they register, and what failed to load."""
    report = describe(installed())
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_tables(
            [
                ("Plugins", report["plugins"], ("distribution", "version", "plugin", "summary", "location")),
                ("Components", report["components"], ("kind", "name", "distribution", "target")),
                ("Failed to load", report["failures"], ("distribution", "version", "plugin", "error")),
                ("Names registered twice", report["conflicts"], ("kind", "name", "owners")),
            ]
        )


def describe(found: Installed) -> dict[str, Any]:
    """The plugins as plain data.

    Returns:
        `plugins` (name, distribution, version, location, summary), `components` (kind, name, target, distribution),
        `failures` (plugin, distribution, version, error) and `conflicts` (kind, name, owners).
    """
    registry = found.registry
    return {
        "plugins": [_describe_owner(owner) for owner in found.plugins],
        "components": [
            {"kind": e.kind, "name": e.name, "target": e.target, "distribution": e.owner.distribution}
            for e in registry.entries()
        ],
        "failures": [{**_describe_owner(failure.owner), "error": failure.error} for failure in found.failures],
        "conflicts": [
            {"kind": group[0].kind, "name": group[0].name, "owners": [str(e.owner) for e in group]}
            for group in registry.conflicts()
        ],
    }


def _describe_owner(owner: Owner) -> dict[str, Any]:
    return {
        "plugin": owner.plugin,
        "distribution": owner.distribution,
        "version": owner.version,
        "location": _location(owner.module),
        "summary": _summary(owner.distribution),
    }


def _summary(distribution: str) -> str | None:
    try:
        return metadata.metadata(distribution)["Summary"]
    except Exception:  # noqa: BLE001 - metadata may be absent or corrupt; the plugin is listed all the same
        return None


def _location(module: str) -> str | None:
    """File of a module; of its top-level package if it is not loaded, for nothing broken may be imported again."""
    try:
        spec = sys.modules[module].__spec__ if module in sys.modules else util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None
