"""Choice of a backbone by its name or by the path of a diffusers checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldr1_backbones.loading import read_json
from worldr1_core import backbone_choice
from worldr1_core.manifest import ComponentSpec
from worldr1_core.registry import Registry


def backbone_spec(name_or_path: str, registry: Registry, options: Mapping[str, Any] | None = None) -> ComponentSpec:
    """The spec of a backbone; see `worldr1_core.backbone_choice.backbone_spec`."""
    return backbone_choice.backbone_spec(name_or_path, registry, options, read_json=read_json)
