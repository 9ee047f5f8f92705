"""Each check of the objective kit passes on good objectives, and fails on the one that breaks it."""

from __future__ import annotations

import pytest

from testing_kit import broken_objectives
from testing_kit.broken_objectives import (
    ALSO_FAIL,
    MUTANTS,
    Good,
    GoodComparison,
    GoodGradient,
    GoodNoisyComparison,
    GoodWindow,
)
from worldr1_core.errors import UserError
from worldr1_core.testing import ConformanceError, check_objective, objective_checks
from worldr1_train.objectives.awm import AWMObjective
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective
from worldr1_train.objectives.nft import NFTObjective
from worldr1_train.objectives.reward_gradient import RewardGradientObjective

NAMES = {check.name for check in objective_checks(Good)}
SCORED = {"zero-advantage", "follows-advantages"}
PLACES = {"credit": "spatial", "aggregation": "gdpo"}


def _run(objective, **arguments):
    try:
        return check_objective(objective, **arguments)
    except ConformanceError as error:
        return error.report


@pytest.mark.parametrize(
    ("objective", "skipped"),
    [
        (Good, {"raises-reward"}),
        (GoodGradient, {"behaviour", *SCORED}),
        (GoodWindow, {"behaviour", "raises-reward"}),
        (GoodComparison, {"behaviour", *SCORED}),
        (GoodNoisyComparison, {"behaviour", *SCORED}),
    ],
)
def test_a_good_objective_passes_every_check(objective, skipped):
    report = check_objective(objective)
    assert report.skipped.keys() == skipped
    assert set(report.passed) == NAMES - skipped


@pytest.mark.parametrize(("name", "broken"), MUTANTS, ids=[f"{name}-{broken.__name__}" for name, broken in MUTANTS])
def test_the_broken_objective_fails_its_check_alone(name, broken):
    failed = _run(broken).failed
    assert name in failed
    assert failed.keys() - {name} <= ALSO_FAIL.get(broken, set()), failed


def test_every_check_has_a_broken_objective():
    assert {name for name, _ in MUTANTS} == NAMES


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (FlowGRPOObjective, {}),
        (FlowGRPOObjective, PLACES),
        (RewardGradientObjective, {"kl": 0.1, "first_frame_anchor": 0.1, "keep": {"motion": 1.1}}),
        (RewardGradientObjective, {"through": "last-steps", "last_steps": 2}),
        (RewardGradientObjective, {"through": "one-step"}),
        (RewardGradientObjective, {"keep_diversity": 1.1}),
        (NFTObjective, {}),
        (NFTObjective, {"weighting": "uniform", "beta": 0.3, **PLACES}),
        (AWMObjective, {}),
        (AWMObjective, {"weighting": "huber", **PLACES}),
    ],
)
def test_the_projects_own_objectives_pass(objective, options):
    check_objective(objective, options=options)


@pytest.mark.parametrize("check", objective_checks(Good, skip={"raises-reward": "has scores"}), ids=str)
def test_parametrised_checks_run_one_by_one(check):
    check()


def test_an_instance_is_checked_except_for_its_state():
    assert "pass the class" in check_objective(GoodGradient()).skipped["state"]


def test_options_that_need_more_steps_say_so():
    failed = _run(NFTObjective, options={"timesteps": 7}).failed
    assert "exceeds the 6 steps" in failed["num-items"]
    assert _run(NFTObjective, options={"timesteps": 7}, num_steps=8).failed == {}


@pytest.mark.parametrize("broken", [broken_objectives.CentresBatch, broken_objectives.ComparesUnreported])
def test_an_objective_that_compares_videos_is_told_to_say_so(broken):
    assert "return True from the property `compares_videos`" in _run(broken).failed["batch-mates"]


@pytest.mark.parametrize(
    ("broken", "company"),
    [(broken_objectives.ComparesMicroBatch, "beside another group"), (broken_objectives.CountsMicroBatch, "alone")],
)
def test_an_objective_that_says_so_must_compare_within_groups(broken, company):
    failed = _run(broken).failed["batch-mates"]
    assert f"where its group is {company}" in failed
    assert "Fix: compare a video with the videos of its own prompt alone" in failed


def test_a_loss_without_a_gradient_is_reported_once_with_its_fix():
    failed = _run(broken_objectives.NoGradient).failed
    assert "no detach(), item(), numpy() or torch.no_grad" in failed["loss-form"]
    others = [message for name, message in failed.items() if name != "loss-form"]
    assert others
    assert all(message.startswith("the same failure as in 'loss-form'") for message in others)


@pytest.mark.parametrize("given", [3, int])
def test_something_else_than_an_objective_is_refused(given):
    with pytest.raises(UserError, match="Expected a"):
        objective_checks(given)
