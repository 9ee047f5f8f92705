"""The schedule of stages and prompts as pure functions of seed and rollout batch."""

from __future__ import annotations

from collections import Counter

import pytest

from train.runs import make_stage
from worldr1_core.errors import UserError
from worldr1_train.stages import StageSchedule


def test_stages_come_again_and_again():
    schedule = StageSchedule([make_stage("main", steps=4), make_stage("dynamic", steps=2)], updates_per_rollout_batch=2)
    assert [schedule.at(rollout_batch).name for rollout_batch in range(7)] == ["main", "main", "dynamic"] * 2 + ["main"]
    assert schedule.cycle_steps == 6


def test_every_prompt_is_drawn_once_a_pass_whatever_stages_lie_between():
    prompts = [f"prompt {i}" for i in range(6)]
    stages = [make_stage("main", steps=2, prompts=prompts), make_stage("dynamic", steps=1, prompts=["x", "y"])]
    schedule = StageSchedule(stages, 1)
    drawn = [
        p
        for rollout_batch in range(9)
        if schedule.at(rollout_batch).name == "main"
        for p in schedule.prompts(rollout_batch, 2, seed=3)
    ]
    assert Counter(drawn[:6]) == Counter(drawn[6:12]) == Counter(prompts)


def test_order_depends_on_seed_and_pass():
    schedule = StageSchedule([make_stage(steps=1, prompts=[f"prompt {i}" for i in range(20)])], 1)
    first, again, other = (schedule.prompts(0, 20, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert schedule.prompts(1, 20, 0) != first


def test_stages_of_one_split_go_on_in_one_order():
    prompts = [f"prompt {i}" for i in range(4)]
    stages = [make_stage(name, steps=1, prompts=prompts, split="main") for name in ("first", "second")]
    schedule = StageSchedule(stages, 1)
    assert Counter(schedule.prompts(0, 2, 0) + schedule.prompts(1, 2, 0)) == Counter(prompts)


def test_rollout_batch_larger_than_the_split_draws_prompts_again():
    schedule = StageSchedule([make_stage(steps=1, prompts=["a", "b"])], 1)
    assert Counter(schedule.prompts(0, 4, 0)) == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([make_stage(steps=3)], r"not a positive multiple of updates_per_rollout_batch \(2\)"),
        ([make_stage(steps=2, prompts=())], "has no prompts"),
    ],
)
def test_schedules_that_cannot_work_are_refused(stages, message):
    with pytest.raises(UserError, match=message):
        StageSchedule(stages, 2)
