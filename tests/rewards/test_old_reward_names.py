"""Rewards under the names that they had before they were renamed."""

from __future__ import annotations

import pytest

from worldr1_core.compose import compose_scoring
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed

RENAMED = {
    "commanded-rerender": "path-rerender",
    "move-likelihood": "camera-move-likelihood",
    "statistics-floor": "statistics-threshold",
    "statistics-kept": "statistics-vs-reference",
}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_in_a_manifest_warns_and_scores_under_the_new_one(old: str, new: str) -> None:
    registry = installed().registry
    with pytest.warns(FutureWarning, match=f"Reward '{old}' is now called '{new}'"):
        manifest = parse_manifest(f"version: 1\nrewards: [{{name: {old}, weight: 0.5}}]\n", registry)
    assert [(reward.name, reward.weight) for reward in manifest.rewards] == [(new, 0.5)]
    assert old not in registry.names("reward")


def test_an_old_name_can_be_asked_for() -> None:
    registry = installed().registry
    manifest = parse_manifest("version: 1\nrewards: [{name: path-rerender, weight: 0.5, gain_power: 0}]\n", registry)
    with pytest.warns(FutureWarning, match="commanded-rerender"):
        (chosen,) = compose_scoring(manifest, registry, only=["commanded-rerender"]).rewards
    assert (chosen.name, chosen.weight, chosen.reward.config.model_dump()["gain_power"]) == ("path-rerender", 0.5, 0)
