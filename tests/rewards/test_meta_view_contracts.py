"""The conformance kit on the meta-view reward."""

from __future__ import annotations

import pytest

from worldr1_core.testing import reward_checks
from worldr1_rewards.rewards.meta_view import MetaViewReward


@pytest.mark.parametrize("check", reward_checks(MetaViewReward), ids=str)
def test_contract(check):
    check()
