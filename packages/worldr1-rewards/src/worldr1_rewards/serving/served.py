"""Choice of the rewards that a server has; it runs all of them itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from worldr1_core.errors import ManifestError
from worldr1_core.manifest import Manifest, PlacedSpec, RewardSpec
from worldr1_core.registry import Registry
from worldr1_core.reward_choice import choose_rewards

S = TypeVar("S", bound=PlacedSpec)


def choose_served(manifest: Manifest, names: Sequence[str] | None, registry: Registry) -> list[RewardSpec]:
    """Return the rewards that a server has.

    Args:
        manifest: Manifest of the server.
        names: Rewards to serve; `None` for all of the manifest.
        registry: Where names are looked up.

    Raises:
        UserError: A reward is unknown, or there is none.
    """
    chosen = choose_rewards(manifest.rewards if names is None else list(names), manifest.rewards, registry)
    if not chosen:
        raise ManifestError("The manifest names no reward to serve. Add one under `rewards:`, or name it in --rewards.")
    return [_here(choice.source) for choice in chosen if isinstance(choice.source, RewardSpec)]


def without_placements(manifest: Manifest) -> Manifest:
    """Return a manifest whose rewards and reconstructor run in this process."""
    reconstructor = None if manifest.reconstructor is None else _here(manifest.reconstructor)
    rewards = [_here(spec) for spec in manifest.rewards]
    return manifest.model_copy(update={"reconstructor": reconstructor, "rewards": rewards})


def _here(spec: S) -> S:
    return spec.model_copy(update={"placement": None})
