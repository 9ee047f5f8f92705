"""Our rewards inside TRL, and TRL's reward functions inside our scorer: both sides see the same numbers."""

from __future__ import annotations

import math

import pytest

from rewards.trl_samples import PROMPTS, VIDEOS, Bright, dark
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError, VideoError
from worldr1_core.reward import Reward
from worldr1_core.video import Video
from worldr1_rewards import Scorer, as_trl_reward


async def dark_later(completions, prompts, **kwargs):
    return [None if prompt == "b" else 1 - float(f.mean()) for prompt, f in zip(prompts, completions, strict=True)]


def test_scores_are_floats_and_missing_ones_none_with_their_reason():
    extra = {}
    values = as_trl_reward(Bright)(prompts=PROMPTS, completions=VIDEOS, log_extra=lambda k, v: extra.update({k: v}))
    assert values == [0.25, None, 0.75]
    assert extra == {"bright_reason": [None, "nothing to see", None]}


def test_functions_are_rewards_of_a_scorer():
    records = Scorer([dark, dark_later])(VIDEOS, prompt=PROMPTS, batch_size=2)
    assert [record["scores"]["dark"] for record in records] == [0.75, 0.5, 0.25]
    assert [record["scores"]["dark_later"] for record in records] == [0.75, None, 0.25]
    assert "returned None" in records[1]["reasons"]["dark_later"]
    assert [record["total"] for record in records] == [1.5, 0.5, 0.5]


def test_function_that_raises_costs_one_clip_its_score():
    def picky(completions, prompts, **kwargs):
        if "b" in prompts:
            raise ValueError("no b, please")
        return [1.0] * len(completions)

    records = Scorer([picky])(VIDEOS, prompt=PROMPTS, batch_size=3)
    assert [record["total"] for record in records] == [1.0, None, 1.0]
    assert records[1]["reasons"]["picky"] == "ValueError: no b, please"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_value_that_is_not_finite_is_a_missing_score(value):
    def odd(completions, **kwargs):
        return [value] * len(completions)

    record = Scorer([odd])(VIDEOS[0])
    assert record["scores"] == {"odd": None}
    assert f"returned {value!r}" in record["reasons"]["odd"]


def test_a_scorer_gives_its_total():
    reward = as_trl_reward(Scorer([(Bright, 2), dark]))
    assert reward.__name__ == "total"
    assert reward(prompts=["a", "b"], completions=VIDEOS[:2]) == [2 * 0.25 + 0.75, None]


def test_a_reward_alone_counts_whatever_its_weight():
    assert as_trl_reward((Bright, 0))(prompts=["a"], completions=VIDEOS[:1]) == [0.25]


def test_completions_may_have_any_form_that_a_scorer_takes():
    videos = [Video(VIDEOS[0]), Clip(Video(VIDEOS[1]), name="own"), VIDEOS[2]]
    assert as_trl_reward(dark)(prompts=PROMPTS, completions=videos) == [0.75, 0.5, 0.25]


def test_columns_of_the_data_set_command_the_path():
    from worldr1_core.camera.vocabulary import trajectory_from_prompt

    class Travel(Reward):
        def score(self, clip, inputs):
            return 0.0 if clip.target is None else clip.target.extent

    path = trajectory_from_prompt("move left", 3)
    reward = as_trl_reward(Travel)
    assert reward.__name__ == "travel"
    assert reward(prompts=["a", "b"], completions=VIDEOS[:2], trajectory=[path, None], label=[0, 1]) == [220.0, 0.0]


def test_conversations_and_texts_are_refused():
    with pytest.raises(UserError, match="prompts must be plain text"):
        as_trl_reward(Bright)(prompts=[[{"role": "user", "content": "a"}]], completions=VIDEOS[:1])
    with pytest.raises(VideoError, match="no such file"):
        as_trl_reward(Bright)(prompts=["a"], completions=["a text"])


def test_options_of_a_scorer_go_to_the_scorer():
    with pytest.raises(UserError, match="A Scorer is set up already"):
        as_trl_reward(Scorer([Bright]), device="cpu")
