"""The conformance kit on the preference reward, with a tiny HPSv2.1."""

from __future__ import annotations

import pytest

from rewards.tiny_preference import ARCHITECTURE, register_tiny_clip, save_hpsv2
from worldr1_core.testing import reward_checks
from worldr1_rewards.preference_models import hpsv2
from worldr1_rewards.rewards.preference import PreferenceReward

# The reward is built when a check first asks, since the checkpoint is a fixture.
_WHERE: dict[str, str] = {}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hps")
    register_tiny_clip(folder)
    return save_hpsv2(folder)


@pytest.fixture(autouse=True)
def _where(checkpoint, monkeypatch):
    monkeypatch.setattr(hpsv2, "ARCHITECTURE", ARCHITECTURE)
    _WHERE["checkpoint"] = str(checkpoint)


def tiny_preference() -> PreferenceReward:
    return PreferenceReward(checkpoint=_WHERE["checkpoint"])


@pytest.mark.parametrize("check", reward_checks(tiny_preference, tolerance=0.0), ids=str)
def test_contract(check):
    check()
