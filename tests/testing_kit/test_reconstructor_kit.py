"""Each check of the reconstructor kit passes on the truth and fails on the reconstructor that breaks it."""

from __future__ import annotations

import pytest

from testing_kit.broken_reconstructors import ALSO_FAIL, MUTANTS, Good, NoReason
from worldr1_core.errors import UserError, WeightsError
from worldr1_core.testing import ConformanceError, check_reconstructor, reconstructor_checks
from worldr1_core.testing.subject import COMPONENT_CONTRACTS

SMALL = {"size": (32, 40), "num_frames": 4, "device": "cpu:0"}


def _run(reconstructor):
    try:
        return check_reconstructor(reconstructor, **SMALL)
    except ConformanceError as error:
        return error.report


def test_the_truth_passes_every_check():
    report = check_reconstructor(Good, **SMALL)
    assert report.skipped == {}
    assert len(report.passed) == len(reconstructor_checks(Good))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_the_broken_reconstructor_fails_its_check_alone(wrong):
    name, broken = MUTANTS[wrong]
    failed = _run(broken).failed
    assert name in failed
    allowed = ALSO_FAIL.get(wrong, set())
    assert "*" in allowed or failed.keys() - {name} <= allowed, failed


def test_every_check_has_a_broken_reconstructor():
    shared = {contract.name for contract in COMPONENT_CONTRACTS}
    assert {name for name, _ in MUTANTS.values()} == {check.name for check in reconstructor_checks(Good)} - shared


def test_the_message_says_what_was_seen():
    failed = _run(MUTANTS["world-to-camera"][1]).failed
    assert "rotations are off by up to 16.00°" in failed["finds-the-path"]
    assert "ScoreUnavailable was raised without a reason" in _run(NoReason).failed["any-size"]


def test_a_reward_is_refused():
    from testing_kit.broken_rewards import Good as GoodReward

    with pytest.raises(UserError, match="derived from Reconstructor"):
        reconstructor_checks(GoodReward)


class NeedsWeights(Good):
    """Needs what cannot be fetched."""

    def reconstruct(self, clip):
        raise WeightsError("no network")


def test_absent_weights_skip_with_the_reason():
    report = check_reconstructor(NeedsWeights, **SMALL)
    assert "no network" in report.skipped["finds-the-path"]
