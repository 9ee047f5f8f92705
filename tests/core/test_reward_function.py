"""Functions in TRL's convention as rewards: what they are given, what they may return, and what fails clearly."""

from __future__ import annotations

import asyncio
import functools
import math

import numpy as np
import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import RewardInputs
from worldr1_core.reward_function import FunctionReward, callable_name
from worldr1_core.video import Video


def gray(level: float, prompt: str = "") -> Clip:
    return Clip(Video(torch.full((2, 3, 4, 4), level)), prompt=prompt)


CLIPS = [gray(0.25, "dark"), gray(0.75, "bright")]


def ask(function, clips=CLIPS):
    return FunctionReward(function).score_batch(clips, [RewardInputs()] * len(clips))


def mean(completions, **kwargs):
    return [float(frames.mean()) for frames in completions]


async def mean_later(completions, **kwargs):
    await asyncio.sleep(0)
    return mean(completions)


class Mean:
    def __call__(self, completions, **kwargs):
        return mean(completions)


class MeanLater:
    async def __call__(self, completions, **kwargs):
        return mean(completions)


FORMS = {
    "function": mean,
    "asynchronous function": mean_later,
    "partial": functools.partial(mean, scale=2),
    "partial of an asynchronous one": functools.partial(mean_later, scale=2),
    "object": Mean(),
    "object with an asynchronous call": MeanLater(),
    "lambda of an awaitable": lambda completions: mean_later(completions),
    "tensor": lambda completions: torch.stack([frames.mean() for frames in completions]),
    "array": lambda completions: np.array([float(frames.mean()) for frames in completions]),
    "generator": lambda completions: (float(frames.mean()) for frames in completions),
}


@pytest.mark.parametrize("function", FORMS.values(), ids=FORMS)
def test_each_video_has_its_score(function):
    assert [score.value for score in ask(function)] == [0.25, 0.75]


def test_asynchronous_function_runs_inside_a_running_loop():
    async def notebook():
        return ask(mean_later)

    assert [score.value for score in asyncio.run(notebook())] == [0.25, 0.75]


def test_asynchronous_calls_share_one_loop():
    loops = []

    async def remember(completions, **kwargs):
        loops.append(asyncio.get_running_loop())
        return mean(completions)

    ask(remember)
    ask(remember)
    assert loops[0] is loops[1]


def test_function_is_given_prompts_frames_and_clips():
    given = {}

    def spy(**kwargs):
        given.update(kwargs)
        return [0.0, 0.0]

    ask(spy)
    assert given["prompts"] == ["dark", "bright"]
    assert [frames.shape for frames in given["completions"]] == [(2, 3, 4, 4)] * 2
    assert given["clips"] == CLIPS
    assert given["trainer_state"] is None


def test_arguments_that_a_signature_lacks_are_left_out():
    assert [score.value for score in ask(lambda completions, log_metric: [1, 2])] == [1.0, 2.0]


def test_none_is_a_score_that_does_not_apply():
    first, second = ask(lambda completions: [0.5, None])
    assert first.value == 0.5
    assert isinstance(second, ScoreNotApplicable)
    assert "returned None" in str(second)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", True, [0.5], torch.tensor(math.nan)], ids=repr)
def test_what_is_no_finite_number_is_a_missing_score(value):
    first, second = ask(lambda completions: [value, 0.5])
    assert type(first) is ScoreUnavailable
    assert "a score is a finite number, or None" in str(first)
    assert second.value == 0.5


@pytest.mark.parametrize("answer", [0.5, None, "ab", {"a": 1, "b": 2}, torch.tensor(0.5)], ids=repr)
def test_what_is_no_list_breaks_the_contract(answer):
    with pytest.raises(PluginError, match="must return a list with one number or None per video, received"):
        ask(lambda completions: answer)


@pytest.mark.parametrize("answer", [[], [0.5], [0.5] * 3])
def test_wrong_length_breaks_the_contract(answer):
    with pytest.raises(PluginError, match=rf"returned {len(answer)} scores for 2 videos"):
        ask(lambda completions: answer)


def broken(completions):
    raise KeyError("no luck")


async def broken_later(completions):
    broken(completions)


@pytest.mark.parametrize("function", [broken, broken_later])
def test_what_a_function_raises_reaches_the_caller(function):
    with pytest.raises(KeyError, match="no luck"):
        ask(function)


def test_extra_columns_and_metrics_stand_in_the_details():
    def logging(completions, log_extra, log_metric, **kwargs):
        log_extra("label", ["a", "b"])
        log_metric("temperature", 1.0)
        log_metric("temperature", torch.tensor(2.0))
        return [0.0, 1.0]

    details = [score.details for score in ask(logging)]
    assert details == [{"label": "a", "temperature": 1.5}, {"label": "b", "temperature": 1.5}]


def test_extra_column_of_another_length_is_refused():
    def logging(completions, log_extra, **kwargs):
        log_extra("label", ["a"])
        return [0.0, 1.0]

    with pytest.raises(PluginError, match=r"log_extra\('label', …\) with 1 values for 2 videos"):
        ask(logging)


@pytest.mark.parametrize("function", [lambda prompts: [], lambda seed: [], lambda *videos: []])
def test_function_without_completions_is_refused(function):
    with pytest.raises(PluginError, match="must take the keyword argument 'completions'"):
        FunctionReward(function)


def test_required_argument_that_videos_lack_is_refused():
    with pytest.raises(PluginError, match=r"requires \['answer'\], which videos do not have"):
        FunctionReward(lambda completions, answer, **kwargs: [])


def test_name_is_that_of_the_function_or_class():
    assert callable_name(mean) == callable_name(functools.partial(functools.partial(mean))) == "mean"
    assert callable_name(Mean()) == "Mean"
