"""Selection and validation of the rewards of a stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from worldr1_core.errors import ManifestError, suggest
from worldr1_core.registry import Registry
from worldr1_train.section import StageSection


def stage_rewards(stage: StageSection, rewards: Collection[str], registry: Registry) -> list[str]:
    """Return the names of the rewards that are used in a stage.

    Args:
        stage: Settings of the stage; `rewards` is `all` or a list of names.
        rewards: Names of the rewards of the run.
        registry: Maps old names of rewards to current ones.
    """
    if stage.rewards == "all":
        return list(rewards)
    return [name if name in rewards else registry.current_name("reward", name) for name in stage.rewards]


def check_stage_rewards(where: str, names: Collection[str], weights: Mapping[str, float], owner: str) -> None:
    """Check that a stage uses only rewards of the run, at least one of them with a weight above 0.

    Args:
        where: Location of the stage, for messages.
        names: Rewards of the stage.
        weights: Name -> weight of the rewards of the run.
        owner: Owner of the rewards, for messages.

    Raises:
        ManifestError: A reward is unknown, or none has a weight above 0.
    """
    for name in names:
        if name not in weights:
            raise ManifestError(
                f"{where}.rewards: {name!r} is not a reward of {owner}. Its rewards: {sorted(weights)}."
                f"{suggest(name, weights)}"
            )
    if not any(weights[name] > 0 for name in names):
        raise ManifestError(
            f"{where}.rewards: there is no reward with a weight above 0 to train on, received {list(names)}. Add one."
        )
