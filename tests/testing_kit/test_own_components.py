"""Our own components keep the promises that the kits ask of everybody's."""

from __future__ import annotations

import pytest

from worldr1_core.plugins import installed
from worldr1_core.testing import check_plugin, check_reconstructor, check_reward


@pytest.mark.parametrize("name", ["reconstruction", "trajectory", "meta-view", "consistency"])
def test_rewards_keep_every_contract(name):
    report = check_reward(installed().registry.load("reward", name))
    assert {"gives-scores", "deterministic", "batch-and-order", "frees-clips"} <= set(report.passed)


@pytest.mark.slow
def test_the_direct_reconstructor_keeps_every_contract():
    report = check_reconstructor(installed().registry.load("reconstructor", "direct"))
    assert report.skipped.keys() <= {"device"}


@pytest.mark.parametrize("module", ["worldr1_core.plugin", "worldr1_rewards.plugin"])
def test_plugins_keep_every_contract(module):
    assert check_plugin(module).skipped == {}
