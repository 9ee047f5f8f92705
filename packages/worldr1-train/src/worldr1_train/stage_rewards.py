"""Which rewards count in a stage of the training cycle."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from worldr1_core.errors import ManifestError, suggest
from worldr1_core.registry import Registry
from worldr1_train.section import StageSection


def stage_rewards(stage: StageSection, rewards: Collection[str], registry: Registry) -> list[str]:
    """Names of the rewards that count in a stage.

    Args:
        stage: Says `all`, or names some of them.
        rewards: Names of the run's rewards.
        registry: Knows the current names of renamed ones.
    """
    if stage.rewards == "all":
        return list(rewards)
    return [name if name in rewards else registry.current_name("reward", name) for name in stage.rewards]


def check_stage_rewards(where: str, names: Collection[str], weights: Mapping[str, float], owner: str) -> None:
    """Check that a stage names rewards of the run, of which at least one trains.

    Args:
        where: The stage, for messages.
        names: What it names.
        weights: Name -> weight of the run's rewards.
        owner: What the rewards belong to, for messages.

    Raises:
        ManifestError: It does not.
    """
    for name in names:
        if name not in weights:
            raise ManifestError(
                f"{where}.rewards: {name!r} is no reward of {owner}: {sorted(weights)}.{suggest(name, weights)}"
            )
    if not any(weights[name] > 0 for name in names):
        raise ManifestError(f"{where}.rewards: no reward with a weight above 0 would train the model in this stage.")
