"""Videos whose rewards failed are sampled and scored again."""

from __future__ import annotations

import pytest
import torch

from train.runs import logged, make_stage, make_trainer, reward
from worldr1_core.compose import WeightedReward
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.policy_step import DenoiserCall, PolicyStep, SchedulePoint, Transition
from worldr1_core.reward import Reward


class FailsOnce(Reward):
    """Fails the first time for some samples, and from then on for others never."""

    def __init__(self, failing, times=1):
        super().__init__()
        self.left = dict.fromkeys(failing, times)
        self.seen = []

    def score(self, clip, inputs):
        number = int(clip.name.split()[-1])
        self.seen.append((clip.name, clip.video.frames.clone()))
        if self.left.get(number, 0):
            self.left[number] -= 1
            raise ScoreUnavailable("the reward server is gone")
        return float(clip.video.frames.mean())


def run(folder, failing=(), times=1, **options):
    judge = FailsOnce(failing, times)
    stage = make_stage(rewards=[WeightedReward("judge", 1.0, judge)])
    trainer = make_trainer(folder, stages=[stage], max_steps=1, beta=0.0, max_failed_share=1.0, **options)
    kept = []
    prepare = trainer.phase._make_buffer

    def make_buffer(rollout_batch, index, rollouts, advantages):
        kept.append((list(rollouts.steps), list(rollouts.latents), list(rollouts.scores), advantages))
        return prepare(rollout_batch, index, rollouts, advantages)

    trainer.phase._make_buffer = make_buffer
    trainer.train()
    return trainer, judge, kept[0]


@pytest.mark.parametrize("objective", ["flow-grpo", "nft"])
def test_failed_videos_are_replaced_and_the_others_stay(tmp_path, objective):
    options = {"objective": objective} if objective != "flow-grpo" else {}
    _, _, (steps, latents, scores, _) = run(tmp_path / "whole", **options)
    again, judge, (own_steps, own_latents, own_scores, advantages) = run(
        tmp_path / "again", failing=(1, 2), max_refills=1, **options
    )
    total = len(scores)
    assert bool(advantages.valid.all())
    assert logged(again, "refilled_samples") == [2.0]
    assert logged(again, "masked_samples") == [0.0]
    others = [sample for sample in range(total) if sample not in (1, 2)]
    assert [own_scores[i].total for i in others] == [scores[i].total for i in others]
    assert all(own_scores[i].total != scores[i].total for i in (1, 2)), "they come from other random numbers"
    size, num_chunks = steps[0].batch_size, total // steps[0].batch_size
    for position, (old, new) in enumerate(zip(steps, own_steps, strict=True)):
        for row in range(size):
            sample = position // (len(steps) // num_chunks) * size + row
            assert torch.equal(old.next_sample[row], new.next_sample[row]) == (sample not in (1, 2))
    if objective == "nft":
        finished = zip(torch.cat(latents), torch.cat(own_latents), range(total), strict=True)
        assert all(torch.equal(old, new) == (sample not in (1, 2)) for old, new, sample in finished)
    names = [name for name, _ in judge.seen]
    assert len(names) == total + 2, "only what failed is scored again"


def test_replaced_rows_are_what_the_policy_would_have_drawn(tmp_path):
    """The density of the recorded steps is that of the model: the ratio of the first update is 1."""
    trainer, _, (steps, *_) = run(tmp_path, failing=(0, 3), max_refills=1)
    assert max(logged(trainer, "ratio/rollout_max_deviation")) < 1e-4
    for step in steps:
        expected = Transition(step.mean, step.std).log_prob(step.next_sample)
        torch.testing.assert_close(step.log_prob, expected, rtol=1e-5, atol=1e-5)


def test_what_fails_again_stays_masked(tmp_path):
    trainer, _, (_, _, scores, advantages) = run(tmp_path, failing=(2,), times=3, max_refills=2)
    assert [bool(v) for v in advantages.valid].count(False) == 1
    assert scores[2].failed
    assert "the reward server is gone" in scores[2].failures["judge"]
    assert "refilled_samples" not in trainer.state.log_history[0]


def test_nothing_is_sampled_again_without_the_option(tmp_path):
    _, judge, (_, _, scores, advantages) = run(tmp_path, failing=(2,))
    assert len(judge.seen) == len(scores)
    assert not bool(advantages.valid[2])


def test_rewards_that_do_not_apply_are_no_failures(tmp_path):
    stage = make_stage(rewards=[reward("brightness"), reward("redness")])
    trainer = make_trainer(tmp_path, stages=[stage], max_steps=1, max_refills=3)
    trainer.train()
    assert "refilled_samples" not in trainer.state.log_history[0]


def test_rows_of_a_step_are_replaced_in_every_block_of_its_arguments():
    def step(value):
        call = DenoiserCall(
            "transformer",
            (torch.full((3, 2), value),),
            {"text": torch.full((6, 2), value), "rope": torch.full((6, 4), value), "scale": torch.tensor(value)},
        )
        point = SchedulePoint(3, 500.0, 0.5, 0.4, 0.9)
        return PolicyStep(point, *(torch.full((3, 4), value) for _ in range(3)), 0.2, torch.full((3,), value), (call,))

    found = step(0.0).with_rows(step(1.0), [1], frozenset({"rope"}))
    assert found.sample[:, 0].tolist() == [0, 1, 0]
    assert found.log_prob.tolist() == [0, 1, 0]
    assert found.calls[0].args[0][:, 0].tolist() == [0, 1, 0]
    assert found.calls[0].kwargs["text"][:, 0].tolist() == [0, 1, 0, 0, 1, 0]
    assert float(found.calls[0].kwargs["rope"].sum()) == 0
    assert float(found.calls[0].kwargs["scale"]) == 0
