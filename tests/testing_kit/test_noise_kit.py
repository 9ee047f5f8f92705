"""Each check of the noise kit passes on a good conditioner and fails on the one that breaks it, and on nothing else."""

from __future__ import annotations

import pytest

from testing_kit.broken_noise import ALSO_FAIL, MUTANTS, Good, TooQuiet
from worldr1_core.errors import UserError
from worldr1_core.plugins import installed
from worldr1_core.testing import ConformanceError, check_noise_conditioner, noise_checks


def test_a_good_conditioner_passes_every_check():
    report = check_noise_conditioner(Good)
    assert report.failed == {}
    assert report.skipped == {}


@pytest.mark.parametrize(("name", "broken"), MUTANTS, ids=[f"{name}-{broken.__name__}" for name, broken in MUTANTS])
def test_the_broken_conditioner_fails_its_check_alone(name, broken):
    with pytest.raises(ConformanceError) as raised:
        check_noise_conditioner(broken)
    failed = raised.value.report.failed
    assert name in failed
    allowed = ALSO_FAIL.get(broken, set())
    assert "*" in allowed or failed.keys() - {name} <= allowed, failed


def test_every_check_has_a_broken_conditioner():
    assert {name for name, _ in MUTANTS} == {check.name for check in noise_checks(Good)}


def test_a_failure_says_what_why_and_how_to_fix_it():
    with pytest.raises(ConformanceError) as raised:
        check_noise_conditioner(TooQuiet)
    message = str(raised.value)
    assert "FAILED standard-normal: 'A quiet harbour.': frame 1 over 24 seeds has mean" in message
    assert "Why: the model was trained on N(0, 1)" in message
    assert "Fix: divide sums by the root of their number" in message


@pytest.mark.parametrize("check", noise_checks(Good, skip={"white": "a demonstration"}), ids=str)
def test_parametrised_checks_run_one_by_one(check):
    check()


def test_a_skip_needs_a_known_check_and_a_reason():
    with pytest.raises(UserError, match="Did you mean 'white'"):
        noise_checks(Good, skip={"whte": "because"})


@pytest.mark.parametrize("given", [3, "worldr1_x:Y", int])
def test_something_else_than_a_conditioner_is_refused(given):
    with pytest.raises(UserError, match="Expected a"):
        noise_checks(given)


def test_gaussian_keeps_every_contract_that_concerns_it():
    report = check_noise_conditioner(installed().registry.load("noise conditioner", "gaussian"))
    assert report.skipped.keys() == {"returns-path", "path-length"}


@pytest.mark.parametrize("injection", ["replace", "blend", "lowpass-delta", "stepwise-delta"])
def test_camera_warp_keeps_every_contract(injection):
    conditioner = installed().registry.load("noise conditioner", "camera-warp")
    assert check_noise_conditioner(conditioner, options={"injection": injection}).skipped == {}
