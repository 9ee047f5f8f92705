"""What worldr1-backbones registers: text-to-video backbones, samplers and noise conditioners."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_backbones() -> dict[str, str]:
    """None yet: `wan`, `cogvideox` and `tiny-wan` join here."""
    return {}
