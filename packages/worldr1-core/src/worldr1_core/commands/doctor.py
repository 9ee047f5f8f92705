"""`worldr1 doctor`: what is installed, what it runs on, and what is wrong with it."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from worldr1_core.commands.placed import examine_places, list_resources
from worldr1_core.commands.plugins import describe
from worldr1_core.installation import (
    LOW_DISK,
    all_requirements_of,
    broken_requirements,
    devices,
    disks,
    extras_of,
    settings,
)
from worldr1_core.plugins import Installed, installed
from worldr1_core.provenance import versions
from worldr1_core.tables import print_tables


@click.command()
@click.argument("manifest", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(manifest: Path | None, as_json: bool) -> None:
    """Report versions, devices, extras, plugins, environments and disks; exit with 1 if something is wrong.

    With a MANIFEST, the endpoints at which its rewards run are asked whether they answer, and which version they have.
    """
    report = examine(installed(), manifest)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(report)
    if report["problems"]:
        raise click.exceptions.Exit(1)


def examine(found: Installed, manifest: Path | None = None) -> dict[str, Any]:
    """The state of the installation as plain data.

    Args:
        found: What is installed.
        manifest: Manifest whose endpoints are asked; `None` for none.

    Returns:
        `system`, `versions`, `devices`, `extras`, `plugins` (component names by kind), `placements` (what they keep on
        this machine, by name), `endpoints` (those of the manifest), `disks`, `settings`, and `problems`: one sentence
        for each thing that must be fixed.

    Raises:
        ManifestError: The manifest cannot be read or is not valid.
    """
    distributions = sorted({owner.distribution for owner in found.plugins if _is_installed(owner.distribution)})
    plugins = describe(found)
    components: dict[str, list[str]] = {}
    for entry in plugins["components"]:
        components.setdefault(entry["kind"], []).append(entry["name"])
    kept, unloaded = list_resources(found.registry)
    places = [] if manifest is None else examine_places(manifest, found.registry)
    report = {
        "system": f"{platform.platform()}, {platform.machine()}",
        "versions": versions(*filter(_is_installed, _libraries(distributions))),
        "devices": devices(),
        "extras": [row for name in distributions for row in extras_of(name)],
        "plugins": {kind: sorted(names) for kind, names in sorted(components.items())},
        "placements": kept,
        "endpoints": places,
        "disks": disks(),
        "settings": settings(),
    }
    unreachable = [f"{row['url']}: {row['problem']}" for row in places if row.get("problem")]
    problems = [*_plugin_problems(plugins), *unloaded, *broken_requirements(distributions), *unreachable]
    problems += _full(report)
    return {**report, "problems": problems}


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _libraries(distributions: list[str]) -> list[str]:
    """Return what the distributions require, with and without extras."""
    required = {requirement.name for name in distributions for requirement in all_requirements_of(name)}
    return sorted(required - set(distributions))


def _plugin_problems(report: dict[str, Any]) -> list[str]:
    failed = [
        f"Plugin {row['plugin']} of {row['distribution']} failed to load: {row['error']}" for row in report["failures"]
    ]
    twice = [
        f"The {row['kind']} {row['name']!r} is registered by {', '.join(row['owners'])}." for row in report["conflicts"]
    ]
    return [*failed, *twice]


def _full(report: dict[str, Any]) -> list[str]:
    return [
        f"Only {disk['free_gib']} GiB are free for the {disk['use']} ({disk['path']})."
        for disk in report["disks"]
        if disk["free_gib"] < LOW_DISK
    ]


def _show(report: dict[str, Any]) -> None:
    click.echo(f"{report['system']}\n")
    names = [{"library": name, "version": version} for name, version in report["versions"].items()]
    extras = [{**row, "installed": "yes" if row["installed"] else "no"} for row in report["extras"]]
    endpoints = [{**row, "reachable": "yes" if row["reachable"] else "no"} for row in report["endpoints"]]
    kinds = [{"kind": kind, "names": names} for kind, names in report["plugins"].items()]
    values = [{"variable": name, "value": value} for name, value in report["settings"].items()]
    print_tables(
        [
            ("Versions", names, ("library", "version")),
            ("Devices", report["devices"], ("device", "name", "memory_gib")),
            ("Extras", extras, ("extra", "installed", "missing")),
            ("Plugins", kinds, ("kind", "names")),
            *((f"Placement {name}", rows, tuple(rows[0])) for name, rows in report["placements"].items()),
            ("Endpoints", endpoints, ("url", "reachable", "version", "rewards", "judge")),
            ("Disks", report["disks"], ("use", "path", "free_gib")),
            ("Environment variables", values, ("variable", "value")),
        ]
    )
    for problem in report["problems"]:
        click.echo(f"Problem: {problem}")
    if not report["problems"]:
        click.echo("No problems found.")
