"""Each check of the sampler kit passes on a good sampler and fails on the one that breaks it, and on nothing else."""

from __future__ import annotations

import pytest

from samplers.toy import ToyScheduler
from testing_kit.broken_samplers import ALSO_FAIL, MUTANTS, Good
from worldr1_core.errors import UserError
from worldr1_core.testing import ConformanceError, check_sampler, sampler_checks


def _run(sampler, **arguments):
    try:
        return check_sampler(sampler, **{"base": ToyScheduler(), "device": "cpu:0", **arguments})
    except ConformanceError as error:
        return error.report


def test_a_good_sampler_passes_every_check():
    report = check_sampler(Good, base=ToyScheduler, device="cpu:0")
    assert report.skipped == {}
    assert len(report.passed) == len(report.outcomes) == len(sampler_checks(Good, base=ToyScheduler))


@pytest.mark.parametrize(("name", "broken"), MUTANTS, ids=[f"{name}-{broken.__name__}" for name, broken in MUTANTS])
def test_the_broken_sampler_fails_its_check_alone(name, broken):
    failed = _run(broken).failed
    assert name in failed
    allowed = ALSO_FAIL.get(broken.__name__, set())
    assert "*" in allowed or failed.keys() - {name} <= allowed, failed


def test_every_check_has_a_broken_sampler():
    assert {name for name, _ in MUTANTS} == {check.name for check in sampler_checks(Good, base=ToyScheduler)}


@pytest.mark.parametrize("check", sampler_checks(Good, base=ToyScheduler(), skip={"device": "CPU only"}), ids=str)
def test_parametrised_checks_run_one_by_one(check):
    check()


def test_options_go_with_a_class():
    assert check_sampler(Good, base=ToyScheduler, options={"strength": 0.1, "window_position": "sliding"}).failed == {}
    with pytest.raises(UserError, match="options go with a class"):
        sampler_checks(Good(), base=ToyScheduler, options={"strength": 0.1})


def test_what_the_pipeline_passes_to_set_timesteps_is_passed_on():
    report = _run(Good, schedule={"device": "cpu"})
    assert report.failed == {}
    assert "unexpected keyword argument 'mu'" in _run(Good, schedule={"mu": 1.0}).failed["every-step"]


@pytest.mark.parametrize("given", [3, int])
def test_something_else_than_a_sampler_is_refused(given):
    with pytest.raises(UserError, match="Expected a"):
        sampler_checks(given, base=ToyScheduler)
