"""The seed of a run."""

from __future__ import annotations

from worldr1_core.manifest import Manifest


def run_seed(manifest: Manifest) -> int:
    """Return the seed of training and evaluation: the manifest's seed modulo 2^32, the range of NumPy's generators."""
    return manifest.seed % 2**32
