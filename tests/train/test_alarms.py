"""The rule of the alarms: which changes raise one, and which do not."""

from __future__ import annotations

import numpy as np
import pytest
from structlog.testing import capture_logs

from worldr1_core.log import configure_logging
from worldr1_train.alarm_log import AlarmWatch
from worldr1_train.alarms import AlarmRule, MetricBounds, find_alarms
from worldr1_train.evaluation import Change, Evaluation
from worldr1_train.held_out_section import AlarmSection

TRAINED = {"reward"}


def change(before, mean, spread=0.001, num_pairs=50):
    return Change(mean, mean - spread, mean + spread, num_pairs, before=before)


ROSE = change(0.5, 0.1)


def raised(rule=None, **changes):
    found = find_alarms({"reward": ROSE, **changes}, TRAINED, AlarmRule() if rule is None else rule)
    return [alarm.metric for alarm in found]


@pytest.mark.parametrize(
    "name",
    [
        *("gradient_x", "gradient_y", "row_variance", "column_variance", "contrast", "motion", "mean_gradient"),
        "sharpness_evenness",
    ],
)
def test_a_statistic_may_fall_by_three_percent(name):
    assert raised(**{name: change(1.0, -0.02)}) == []
    assert raised(**{name: change(1.0, -0.04)}) == [name]
    assert raised(**{name: change(1.0, +0.50)}) == []


def test_a_fall_that_may_be_chance_is_no_alarm():
    assert raised(contrast=change(1.0, -0.04, spread=0.05)) == []


def test_diversity_may_fall_by_a_tenth():
    assert raised(diversity=change(0.2, -0.015)) == []
    assert raised(diversity=change(0.2, -0.03)) == ["diversity"]


def test_the_loss_on_true_clips_may_rise_by_a_tenth():
    assert raised(flow_matching_loss=change(0.5, +0.04)) == []
    assert raised(flow_matching_loss=change(0.5, +0.06)) == ["flow_matching_loss"]
    assert raised(flow_matching_loss=change(0.5, -0.20)) == []


def test_any_other_metric_must_not_surely_fall():
    assert raised(psnr=change(20.0, -0.01)) == ["psnr"]
    assert raised(psnr=change(20.0, -0.01, spread=0.02)) == []
    assert raised(psnr=change(20.0, +1.0)) == []
    assert raised(AlarmRule(other_metrics=False), psnr=change(20.0, -1.0)) == []


def test_no_alarm_when_nothing_trained_rose():
    fell = {"contrast": change(1.0, -0.5)}
    assert find_alarms({"reward": change(0.5, -0.1), **fell}, TRAINED, AlarmRule()) == []
    assert find_alarms({"reward": change(0.5, 0.01, spread=0.02), **fell}, TRAINED, AlarmRule()) == []
    assert find_alarms({"other": ROSE, **fell}, TRAINED, AlarmRule()) == []
    assert len(find_alarms({"reward": ROSE, **fell}, TRAINED, AlarmRule())) == 1


def test_what_is_trained_on_raises_no_alarm():
    assert find_alarms({"reward": ROSE, "contrast": change(1.0, -0.5)}, {"reward", "contrast"}, AlarmRule()) == []


def test_a_few_pairs_raise_no_alarm():
    """The bootstrap interval of one pair is a point, which proves nothing."""
    assert raised(contrast=change(1.0, -0.5, spread=0.0, num_pairs=4)) == []
    assert find_alarms({"reward": change(0.5, 0.1, 0.0, 1), "psnr": change(20, -5)}, TRAINED, AlarmRule()) == []


def test_a_ratio_to_nothing_is_judged_by_the_fall_alone():
    assert raised(motion=change(0.0, -0.1)) == ["motion"]
    assert raised(motion=change(0.0, +0.1)) == []


def test_bounds_are_the_manifests():
    rule = AlarmSection.model_validate({"bounds": {"psnr": {"min_ratio": 0.9}, "motion": None}}).rule()
    assert raised(rule, psnr=change(20.0, -1.0)) == []
    assert raised(rule, psnr=change(20.0, -2.5)) == ["psnr"]
    assert raised(rule, motion=change(1.0, -0.02)) == ["motion"], "without bounds any sure fall counts"
    assert raised(rule, contrast=change(1.0, -0.04)) == ["contrast"], "other bounds stay"
    hyphens = AlarmSection.model_validate({"bounds": {"gradient-x": {"max_ratio": 1.05}}}).rule()
    assert raised(hyphens, gradient_x=change(1.0, +0.06)) == ["gradient_x"]


def test_the_message_says_what_rose_what_fell_and_by_how_much():
    (alarm,) = find_alarms({"reward": ROSE, "contrast": change(0.2, -0.02)}, TRAINED, AlarmRule())
    assert alarm.message == (
        "contrast, which is not trained on, fell to 90.0% of its value before training (-0.02, 95 % interval -0.021 to "
        "-0.019; the bound is 97%) while the trained reward (+0.1) rose."
    )
    data = alarm.as_data()
    assert (data["ratio"], data["bound"], data["risen"]) == (0.9, 0.97, {"reward": 0.1})


def evaluations(contrast):
    noise = np.random.default_rng(0).normal(size=40)
    prompts = [f"prompt {i}" for i in range(40)]
    before = Evaluation(prompts, {"reward": list(0.5 + 0.1 * noise), "contrast": list(1 + 0.1 * noise)})
    after = Evaluation(prompts, {"reward": list(0.7 + 0.1 * noise), "contrast": list(contrast * (1 + 0.1 * noise))})
    return before, after


@pytest.mark.parametrize(("contrast", "number"), [(0.9, 1), (1.0, 0), (1.1, 0)])
def test_evaluations_are_compared_and_an_alarm_is_a_warning_in_the_log(contrast, number):
    configure_logging()
    before, after = evaluations(contrast)
    with capture_logs() as entries:
        alarms = AlarmWatch(before, TRAINED, AlarmRule(bounds={"contrast": MetricBounds(0.97)})).check(after, 12)
    assert [alarm.metric for alarm in alarms] == ["contrast"] * number
    assert [(e["log_level"], e["metric"], e["step"]) for e in entries] == [("warning", "contrast", 12)] * number


def test_a_run_that_measures_none_of_its_rewards_is_told_that_it_has_no_alarms():
    configure_logging()
    before, after = evaluations(0.5)
    with capture_logs() as entries:
        assert AlarmWatch(before, {"hidden"}, AlarmRule()).check(after) == []
    assert "alarms disabled" in entries[0]["event"]
