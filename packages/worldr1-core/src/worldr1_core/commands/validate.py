"""`worldr1 validate`: check a manifest before anything expensive starts."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
def validate(manifest: Path) -> None:
    """Check MANIFEST against what is installed; every mistake is one line `file:line: key: problem`."""
    from worldr1_core.manifest import ChecksManifest, load_manifest
    from worldr1_core.plugins import installed

    registry = installed().registry
    loaded = load_manifest(manifest, registry)
    for section in loaded.sections.values():
        if isinstance(section, ChecksManifest):
            section.check_manifest(manifest, loaded, registry)
    components = [{"kind": kind, **spec.model_dump()} for _, kind, spec in loaded.components()]
    click.echo(json.dumps({"manifest": str(manifest), "valid": True, "components": components}))
