"""The forms in which a manifest can be given in Python: a file, a mapping, or a manifest that is validated already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from worldr1_core.manifest import Manifest, load_manifest, read_manifest_mapping
from worldr1_core.registry import Registry

ManifestLike = str | Path | Mapping[str, Any] | Manifest
"""A manifest: its file, the same as a mapping, or one that is validated already."""

SUFFIXES = (".yaml", ".yml")


def is_manifest(value: Any) -> TypeGuard[ManifestLike]:
    """Tell a manifest from rewards: a string is the file of one by its suffix, a mapping by its key `rewards`."""
    if isinstance(value, str):
        return value.lower().endswith(SUFFIXES)
    return isinstance(value, Path | Manifest) or (isinstance(value, Mapping) and "rewards" in value)


def read_manifest(manifest: ManifestLike, registry: Registry) -> Manifest:
    """Validate a manifest given in any form.

    Raises:
        ManifestError: The file cannot be read, or the manifest is not valid.
    """
    if isinstance(manifest, Manifest):
        return manifest
    if isinstance(manifest, Mapping):
        return read_manifest_mapping(manifest, registry)
    return load_manifest(manifest, registry)
