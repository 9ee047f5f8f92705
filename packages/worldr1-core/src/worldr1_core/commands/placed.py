"""Places in which rewards and judges run, as `worldr1 doctor` reports them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldr1_core.registry import Registry


def list_resources(registry: Registry) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return what placements keep on this machine, by name, and the problems of those that cannot be loaded."""
    from worldr1_core.component import load_component  # not at the top: `worldr1 --help` imports the command
    from worldr1_core.errors import WorldR1Error

    kept: dict[str, list[dict[str, Any]]] = {}
    problems = []
    for name in registry.names("placement"):
        try:
            placement: Any = load_component(registry, "placement", name)
        except WorldR1Error as error:
            problems.append(str(error))
        else:
            kept |= {name: rows} if (rows := placement.resources()) else {}
    return kept, problems


def examine_places(manifest: Path, registry: Registry) -> list[dict[str, Any]]:
    """Ask the places of a manifest for their state; each place once.

    Raises:
        ManifestError: The manifest cannot be read or is not valid.
    """
    from worldr1_core.component import load_component, validate_document
    from worldr1_core.manifest import load_manifest

    document = load_manifest(manifest, registry)
    specs = [spec for spec in (document.reconstructor, document.judge, *document.rewards) if spec is not None]
    rows: dict[str, dict[str, Any]] = {}
    for spec in specs:
        if spec.placement is None:
            continue
        kind: Any = load_component(registry, "placement", spec.placement.name)
        for row in kind(validate_document(kind.Config, spec.placement.options)).examine():
            rows.setdefault(row["url"], row)
    return list(rows.values())
