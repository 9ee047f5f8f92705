"""Rewards that compare with the model before training: every group gets a video of it."""

from __future__ import annotations

import pytest
import torch

from train.runs import logged, make_stage, make_trainer, reward
from worldr1_train.memory import count_memory


def comparing(folder, **options):
    options = {"beta": 0.0, "num_sample_videos": 8, "sample_videos_every": 1, "max_steps": 4, **options}
    trainer = make_trainer(folder, stages=[make_stage(rewards=[reward("gain")])], **options)
    trainer.train()
    return trainer


def references(trainer):
    return [clip.reference.frames for clip in trainer.last_rollout_batch.clips]


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "full"])
def test_references_are_of_the_model_before_and_one_a_group(tmp_path, adapter):
    trained, untrained = (
        comparing(tmp_path / str(rate), adapter=adapter, learning_rate=rate, max_loss=1e6) for rate in (0.05, 1e-12)
    )
    for one, other in zip(references(trained), references(untrained), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    found = references(trained)
    assert all(torch.equal(found[0], frames) for frames in found[:4])
    assert not torch.equal(found[0], found[4])
    videos = [[clip.video.frames for clip in trainer.last_rollout_batch.clips] for trainer in (trained, untrained)]
    assert float((videos[0][0] - videos[1][0]).abs().max()) > 1e-3


def test_an_untrained_model_gains_nothing_and_a_trained_one_does(tmp_path):
    gains = logged(comparing(tmp_path, max_steps=40, num_generations=8, learning_rate=0.02), "reward")
    assert abs(sum(gains[:3])) / 3 < 0.05
    assert sum(gains[-5:]) / 5 > sum(gains[:3]) / 3 + 0.05


def test_references_do_not_change_what_is_sampled(tmp_path):
    both = [reward("brightness"), reward("gain", 0.0)]
    runs = [
        make_trainer(tmp_path / str(len(rewards)), stages=[make_stage(rewards=rewards)], max_steps=3)
        for rewards in (both, both[:1])
    ]
    for trainer in runs:
        trainer.train()
    assert logged(runs[0], "loss") == logged(runs[1], "loss")


def test_no_reference_is_made_where_no_reward_reads_one(tmp_path):
    trainer = make_trainer(tmp_path, num_sample_videos=1, sample_videos_every=1)
    trainer.train()
    assert trainer.last_rollout_batch.clips[0].reference is None


def test_the_copy_of_full_finetuning_is_counted(tmp_path):
    stages = [make_stage(rewards=[reward("gain")])]
    kept, plain = (
        make_trainer(tmp_path / name, stages=given, adapter=False, beta=0.0)
        for name, given in (("kept", stages), ("plain", None))
    )
    assert kept.model.has_reference_copy
    assert not plain.model.has_reference_copy
    trained = sum(p.numel() for p in kept.model.trainable().values())
    needs = [count_memory(trainer.model, trainer.args, [], 2).training for trainer in (kept, plain)]
    assert needs[0] - needs[1] == 4 * trained
