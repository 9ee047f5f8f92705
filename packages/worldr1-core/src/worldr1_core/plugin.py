"""Components of core itself, registered by the same hook as third parties' components."""

from __future__ import annotations

from worldr1_core.hookspecs import hookimpl


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """The commands that need no other package."""
    return {
        "doctor": "worldr1_core.commands.doctor:doctor",
        "plugins": "worldr1_core.commands.plugins:plugins",
        "schema": "worldr1_core.commands.schema:schema",
        "validate": "worldr1_core.commands.validate:validate",
        "new-plugin": "worldr1_core.commands.new_plugin:new_plugin",
    }
