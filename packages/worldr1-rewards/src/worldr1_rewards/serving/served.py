"""Choice of what a server has; it runs all of its rewards itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from worldr1_core.errors import ManifestError
from worldr1_core.manifest import Manifest, PlacedSpec, RewardSpec
from worldr1_core.registry import Registry
from worldr1_core.reward_choice import choose_rewards

S = TypeVar("S", bound=PlacedSpec)


def choose_served(
    manifest: Manifest, names: Sequence[str] | None, registry: Registry, *, judge: bool = False
) -> list[RewardSpec]:
    """Return the rewards that a server has.

    Args:
        manifest: Manifest of the server.
        names: Rewards to serve; `None` for all of the manifest, or for none with `judge`.
        registry: Where names are looked up.
        judge: The judge is served too.

    Raises:
        UserError: A reward is unknown, or there is nothing to serve.
    """
    if judge and manifest.judge is None:
        raise ManifestError("The manifest names no judge to serve. Add one under `judge:`, or leave out --judge.")
    if judge and names is None:
        return []
    chosen = choose_rewards(manifest.rewards if names is None else list(names), manifest.rewards, registry)
    if not chosen:
        raise ManifestError("The manifest names no reward to serve. Add one under `rewards:`, or name it in --rewards.")
    return [_here(choice.source) for choice in chosen if isinstance(choice.source, RewardSpec)]


def without_placements(manifest: Manifest, *, ask_judge: bool = False) -> Manifest:
    """Return a manifest whose rewards, reconstructor and judge run in this process.

    Args:
        manifest: Manifest of the server.
        ask_judge: The judge stays where it is placed.
    """
    reconstructor = None if manifest.reconstructor is None else _here(manifest.reconstructor)
    judge = manifest.judge if ask_judge or manifest.judge is None else _here(manifest.judge)
    rewards = [_here(spec) for spec in manifest.rewards]
    return manifest.model_copy(update={"reconstructor": reconstructor, "judge": judge, "rewards": rewards})


def _here(spec: S) -> S:
    return spec.model_copy(update={"placement": None})
