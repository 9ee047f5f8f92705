"""`worldr1 schema`: the JSON schema of manifests for whatever is installed."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of a manifest, with the options of every installed component."""
    from worldr1_core.log import get_logger
    from worldr1_core.manifest_schema import manifest_schema
    from worldr1_core.plugins import installed

    document, failures = manifest_schema(installed().registry)
    for component, reason in failures.items():
        get_logger(__name__).warning("component left out of the schema", component=component, reason=reason)
    click.echo(json.dumps(document, indent=2))
