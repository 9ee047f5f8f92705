"""Evaluation: the same videos before and after, paired differences with intervals."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random

import numpy as np
import pytest
import torch

from train.fake_world import FakeBackbone, FakeSampler
from train.runs import White, reward
from worldr1_core.backbone import AdapterSpec
from worldr1_core.compose import ScoringComponents
from worldr1_core.errors import UserError
from worldr1_core.generation_components import GenerationComponents
from worldr1_core.scoring import ScoringEngine
from worldr1_train.evaluation import Evaluation, Evaluator, LabelledValues, compare, preserved_rng_state
from worldr1_train.evaluation_videos import EvaluationVideos
from worldr1_train.policy_model import PolicyModel
from worldr1_train.policy_pipeline import policy_pipeline

NAN = math.nan


def make_evaluator(backbone, *, prompts=("a cat", "a tree", "a boat"), batch_size=2, rewards=("brightness",)):
    components = GenerationComponents(backbone, FakeSampler(num_inference_steps=4), White())
    pipeline = policy_pipeline(components, PolicyModel(backbone), contextlib.nullcontext)
    videos = EvaluationVideos(pipeline, list(prompts), seed=0)
    return Evaluator(
        videos, ScoringEngine(ScoringComponents([reward(name) for name in rewards], None, None)), batch_size
    )


def adapted_backbone():
    backbone = FakeBackbone()
    backbone.add_adapter(AdapterSpec(rank=4))
    return backbone


def test_videos_are_the_same_each_time_and_whatever_the_batch():
    backbone = adapted_backbone()
    first, again = make_evaluator(backbone)(), make_evaluator(backbone, batch_size=3)()
    assert first.values["brightness"] == pytest.approx(again.values["brightness"], abs=1e-6)
    assert len(set(first.values["brightness"])) == 3


def test_videos_are_those_of_plain_deterministic_sampling():
    backbone = adapted_backbone()
    evaluator = make_evaluator(backbone, prompts=["a cat"])
    clip = evaluator.videos.generate([0])[0]
    from worldr1_core.noise import NoiseRequest
    from worldr1_core.seeding import derive_seed

    noise = White().initial_noise(NoiseRequest(backbone.geometry, prompt="a cat", seed=derive_seed(0, "evaluation", 0)))
    rollout = backbone.sample(backbone.encode(["a cat"]), noise.latents[None], num_inference_steps=4)
    torch.testing.assert_close(clip.video.frames, backbone.decode(rollout.latents)[0])


def test_metrics_are_named_as_identifiers():
    found = make_evaluator(adapted_backbone(), rewards=("brightness", "shine-accuracy"))()
    assert list(found.values) == ["brightness", "shine_accuracy"]


def test_processes_share_the_videos():
    evaluator = make_evaluator(adapted_backbone(), batch_size=1)
    whole = evaluator().values["brightness"]
    shares = [evaluator(rank=rank, num_processes=2).values["brightness"] for rank in (0, 1)]
    assert shares == [whole[0::2], whole[1::2]]


def test_evaluation_disturbs_nothing_random():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with preserved_rng_state():
        first = torch.rand(()), np.random.rand(), random.random()
    assert (torch.rand(()), np.random.rand(), random.random()) == first


def test_change_is_paired_and_its_interval_covers_the_truth():
    random_generator = np.random.default_rng(0)
    prompts = [f"prompt {i}" for i in range(50)]
    difficulty = random_generator.normal(size=50) * 100
    before = Evaluation(prompts, {"psnr": list(difficulty)})
    after = Evaluation(prompts, {"psnr": list(difficulty + 1 + random_generator.normal(size=50) * 0.5)})
    change = compare(before, after)["psnr"]
    assert change.low < 1 < change.high
    assert 0.15 < change.high - change.low < 0.5, "2 x 1.96 x 0.5 / sqrt(50) = 0.28"
    assert change.num_pairs == 50


def test_videos_without_a_value_are_left_out_pair_by_pair():
    before = Evaluation(["a", "b", "c"], {"x": [1.0, NAN, 3.0], "y": [NAN] * 3})
    after = Evaluation(["a", "b", "c"], {"x": [2.0, 5.0, NAN], "y": [1.0] * 3})
    changes = compare(before, after)
    assert (changes["x"].mean, changes["x"].num_pairs) == (1.0, 1)
    assert "y" not in changes
    assert before.means() == {"x": 2.0, "y": None}


def test_evaluations_of_other_prompts_are_not_compared():
    with pytest.raises(UserError, match="have different prompts"):
        compare(Evaluation(["a"], {"x": [1.0]}), Evaluation(["b"], {"x": [1.0]}))


def test_figures_that_are_no_rewards_are_compared_label_by_label(tmp_path):
    before = Evaluation(["a"], {"x": [1.0]}, {"diversity": LabelledValues(["a", "b"], [0.2, 0.4])})
    after = Evaluation(["a"], {"x": [1.0]}, {"diversity": LabelledValues(["a", "b"], [0.1, 0.2])})
    after.save(tmp_path / "after.json")
    change = compare(before, Evaluation.load(tmp_path / "after.json"))["diversity"]
    assert (change.mean, change.before, change.num_pairs) == pytest.approx((-0.15, 0.3, 2))
    assert after.means() == pytest.approx({"x": 1.0, "diversity": 0.15})
    other = Evaluation(["a"], {"x": [1.0]}, {"diversity": LabelledValues(["a", "c"], [0.1, 0.2])})
    with pytest.raises(UserError, match="diversity was measured on different prompts or clips"):
        compare(before, other)


def test_a_reward_must_not_take_the_name_of_a_figure():
    class Named:
        name = "brightness"

        def labels(self, videos):
            return ["a"]

        def measure(self, videos, *, rank, num_processes):
            return {0: 1.0}

    evaluator = dataclasses.replace(make_evaluator(adapted_backbone()), held_out=(Named(),))
    with pytest.raises(UserError, match="measures 'brightness' itself"):
        evaluator()


def test_evaluation_is_kept_on_disk(tmp_path):
    saved = Evaluation(["a", "b"], {"x": [1.5, NAN]})
    saved.save(tmp_path / "evaluation.json")
    back = Evaluation.load(tmp_path / "evaluation.json")
    assert back.prompts == saved.prompts
    assert back.values["x"][0] == 1.5
    assert math.isnan(back.values["x"][1])
    assert "NaN" not in (tmp_path / "evaluation.json").read_text()
