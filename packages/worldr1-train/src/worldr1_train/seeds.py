"""The seed of a run."""

from __future__ import annotations

from worldr1_core.manifest import Manifest


def run_seed(manifest: Manifest) -> int:
    """Seed of everything random in training and evaluation: the manifest's, below 2^32 as numpy's generators need."""
    return manifest.seed % 2**32
