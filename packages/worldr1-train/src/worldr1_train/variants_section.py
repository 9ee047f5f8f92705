"""Pydantic model of the manifest's section `variants`: named changes of the manifest, for ablations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, RootModel, field_validator

Key = Annotated[str, Field(min_length=1, max_length=500)]
VariantName = Annotated[str, Field(min_length=1, max_length=100)]


class VariantsSection(RootModel[dict[VariantName, dict[Key, Any]]]):
    """Variant -> changed values of the manifest: key such as `train.objective.credit` or `rewards.0.weight` -> value.

    The first variant is the baseline that the others are compared with; usually it changes nothing (`full: {}`).
    """

    @field_validator("root")
    @classmethod
    def _check(cls, root: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not root:
            raise ValueError("needs at least one variant, e.g. `variants: {full: {}}`")
        for name, changes in root.items():
            for key in changes:
                first = key.split(".")[0]
                if not all(key.split(".")) or "=" in key:
                    raise ValueError(f"{name}: a key is a path such as train.max_steps, received {key!r}")
                if first in ("variants", "seed", "version"):
                    raise ValueError(
                        f"{name}: {key!r} cannot be changed by a variant; the seeds are chosen by `worldr1 ablate "
                        "--seeds`"
                    )
        return root

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.root)

    def overrides(self) -> dict[str, list[str]]:
        """Return variant -> its changes in the form of `--set`, `key=value` with the value in YAML."""
        return {name: [f"{key}={json.dumps(value)}" for key, value in own.items()] for name, own in self.root.items()}
