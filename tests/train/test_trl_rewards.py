"""Reward functions as TRL's own trainer calls them: our rewards there, and its functions in our scorer."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOTrainer

from rewards.trl_samples import PROMPTS, VIDEOS, Bright, dark
from worldr1_rewards import Scorer, as_trl_reward


@pytest.fixture
def calculate(monkeypatch):
    """The matrix of rewards that `GRPOTrainer` computes from reward functions, and what they log."""
    monkeypatch.setattr("trl.trainer.grpo_trainer.gather", lambda tensor: tensor)
    extra = {}

    def run(*functions):
        trainer = SimpleNamespace(
            accelerator=SimpleNamespace(device=torch.device("cpu"), is_main_process=True),
            reward_funcs=list(functions),
            reward_processing_classes=[None] * len(functions),
            reward_func_names=[function.__name__ for function in functions],
            state=SimpleNamespace(global_step=3),
            environments=None,
            args=SimpleNamespace(report_to=[]),
            _log_completion_extra=lambda column, values: extra.update({column: values}),
            _log_metric=lambda name, value: None,
        )
        inputs = [{"prompt": prompt, "label": 0} for prompt in PROMPTS]
        return GRPOTrainer._calculate_rewards(trainer, inputs, PROMPTS, VIDEOS, [[0]] * len(PROMPTS)), extra

    return run


def test_trl_computes_our_scores(calculate):
    rewards, extra = calculate(as_trl_reward(Bright), dark)
    assert rewards[:, 1].tolist() == [0.75, 0.5, 0.25]
    assert rewards[[0, 2], 0].tolist() == [0.25, 0.75]
    assert math.isnan(rewards[1, 0])
    assert extra == {"bright_reason": [None, "nothing to see", None]}


def test_a_scorer_computes_what_trl_computes(calculate):
    rewards, _ = calculate(dark)
    records = Scorer([dark])(VIDEOS, prompt=PROMPTS)
    assert [record["total"] for record in records] == rewards[:, 0].tolist()
