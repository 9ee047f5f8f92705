"""Scoring with the shipped manifest: the engine is core's, the weights-free default is ours."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from worldr1_core import scoring
from worldr1_core.compose import compose_scoring
from worldr1_core.manifest import load_manifest, parse_manifest, read_manifest_text
from worldr1_core.plugins import installed
from worldr1_core.registry import Registry
from worldr1_core.scoring import ClipScores

__all__ = ["ClipScores", "Scorer", "manifest_text"]

DEFAULT_MANIFEST = "default.yaml"


def manifest_text(path: str | Path | None = None) -> str:
    """The text of a manifest file, or of the shipped default.

    Raises:
        ManifestError: The file cannot be read.
    """
    if path is None:
        return resources.files("worldr1_rewards").joinpath(DEFAULT_MANIFEST).read_text(encoding="utf-8")
    return read_manifest_text(path)


class Scorer(scoring.Scorer):
    """Scores clips with the rewards of a manifest.

    Example:
        ```python
        scorer = Scorer.from_manifest()
        for result in scorer.score([Clip(read_video("clip.mp4"), prompt="Camera push in. A red room.")]):
            print(result.total, result.reasons)
        ```
    """

    @classmethod
    def from_manifest(
        cls, path: str | Path | None = None, *, rewards: Iterable[str] | None = None, registry: Registry | None = None
    ) -> Scorer:
        """Compose a scorer.

        Args:
            path: Manifest file; the shipped weights-free default when left out.
            rewards: Names of the rewards to use, in this order; one that the manifest does not list takes its defaults
                and weight 1.
            registry: Where names are looked up; what is installed when left out.

        Raises:
            ManifestError: The manifest does not validate.
            UserError: A named component cannot be had.
        """
        registry = installed().registry if registry is None else registry
        if path is None:
            manifest = parse_manifest(manifest_text(), registry, name=f"worldr1_rewards/{DEFAULT_MANIFEST}")
        else:
            manifest = load_manifest(path, registry)
        return cls(compose_scoring(manifest, registry, only=rewards))
