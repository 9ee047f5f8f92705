"""What worldr1-train registers: the `train` and `eval` commands and the `train` section of the manifest."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """None yet: `train` and `eval` join here."""
    return {}
