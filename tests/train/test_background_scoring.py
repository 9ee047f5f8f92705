"""Rewards elsewhere score several chunks while others are sampled; the numbers are those of scoring chunk by chunk."""

from __future__ import annotations

import random
import threading
import time

import pytest
import torch

from train.fake_world import Brightness, Redness
from train.runs import logged, make_stage, make_trainer
from worldr1_core.compose import WeightedReward
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.placement import PlacedReward, RemoteScorer, ScoredClip
from worldr1_core.reward import RewardInputs, Score


class Elsewhere(RemoteScorer):
    """Scores clips by their brightness, after a while that differs, and counts the calls that are under way.

    Args:
        hold: Calls that must be under way before any of them returns; the last ones do not wait for others.
    """

    def __init__(self, hold=1, pause=0.0):
        self.hold, self.pause = hold, pause
        self.num_under_way = self.most = self.num_calls = 0
        self.changed = threading.Condition()

    def score(self, clips, rewards, *, with_reference):
        with self.changed:
            self.num_calls += 1
            self.num_under_way += 1
            self.most = max(self.most, self.num_under_way)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.hold, timeout=60)
        time.sleep(self.pause * random.random())
        scored = [ScoredClip({name: self.answer(clip) for name in rewards}) for clip in clips]
        with self.changed:
            self.num_under_way -= 1
        return scored

    def answer(self, clip):
        return Score(Brightness().score(clip, RewardInputs()))


class InOrder(Redness):
    """Refuses to be called from two threads."""

    def __init__(self):
        super().__init__()
        self.lock, self.seen = threading.Lock(), []

    def score(self, clip, inputs):
        assert self.lock.acquire(blocking=False)
        try:
            self.seen.append(int(clip.name.split()[-1]))
            return super().score(clip, inputs)
        finally:
            self.lock.release()


def placed(scorer, name="brightness", weight=1.0):
    return WeightedReward(name, weight, PlacedReward(name, reads_reference=False, scorer=scorer))


def trained(folder, rewards, **options):
    stage = make_stage(rewards=rewards)
    sizes = {"prompts_per_rollout_batch": 4, "groups_per_rollout": 1, "per_device_train_batch_size": 4}
    trainer = make_trainer(folder, stages=[stage], max_steps=2, **{**sizes, **options})
    trainer.train()
    return trainer


def assert_same_run(first, second):
    for name in ("loss", "reward", "grad_norm"):
        assert logged(first, name) == logged(second, name)
    weights, others = (dict(trainer.model.named_parameters()) for trainer in (first, second))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("ahead", [1, 2])
def test_rewards_elsewhere_score_as_many_chunks_at_once_as_allowed(tmp_path, ahead):
    elsewhere = Elsewhere(hold=ahead + 1)
    trained(tmp_path, [placed(elsewhere)], chunks_ahead=ahead)
    # The last chunk that is sampled is submitted while `ahead` others are without scores.
    assert elsewhere.most == ahead + 1
    assert elsewhere.num_calls == 2 * 4


def test_without_async_rewards_one_chunk_is_under_way(tmp_path):
    elsewhere = Elsewhere(pause=0.01)
    trained(tmp_path, [placed(elsewhere)], async_rewards=False, chunks_ahead=5)
    assert elsewhere.most == 1


def test_a_run_with_chunks_ahead_is_the_run_without_them(tmp_path):
    ordered = InOrder()
    runs = [
        trained(tmp_path / "plain", [WeightedReward("brightness", 1.0, Brightness()), _redness(Redness())]),
        trained(tmp_path / "elsewhere", [placed(Elsewhere(pause=0.02)), _redness(ordered)], chunks_ahead=4),
        trained(tmp_path / "in turn", [placed(Elsewhere()), _redness(Redness())], async_rewards=False),
    ]
    assert_same_run(runs[0], runs[1])
    assert_same_run(runs[0], runs[2])
    assert ordered.seen == [*range(16)] * 2, "rewards of this process score the chunks in order"


def _redness(reward):
    return WeightedReward("redness", 0.5, reward)


def test_the_time_spent_waiting_is_logged(tmp_path):
    class Slow(Elsewhere):
        def answer(self, clip):
            time.sleep(0.05 * clip.name.endswith("sample 15"))
            return super().answer(clip)

    trainer = trained(tmp_path, [placed(Slow())], chunks_ahead=6)
    waited, scored = logged(trainer, "seconds/waiting"), logged(trainer, "seconds/rewards")
    assert all(0.05 <= wait <= whole for wait, whole in zip(waited, scored, strict=True))


def test_lost_scores_are_masked_in_their_own_chunk(tmp_path):
    class Loses(Elsewhere):
        def score(self, clips, rewards, *, with_reference):
            if any(clip.name.endswith("sample 5") for clip in clips):
                raise ScoreUnavailable("the worker ended with signal 9")
            return super().score(clips, rewards, with_reference=with_reference)

    trainer = trained(tmp_path, [placed(Loses(pause=0.02))], chunks_ahead=4)
    assert logged(trainer, "masked_samples") == [4.0] * 2
    assert [score.failed for score in trainer.last_scores] == [4 <= sample < 8 for sample in range(16)]


def test_an_error_of_the_user_stops_the_run_before_further_chunks_are_sampled(tmp_path):
    class Refuses(Elsewhere):
        def score(self, clips, rewards, *, with_reference):
            self.num_calls += 1
            raise UserError("This server needs its token.")

    elsewhere = Refuses()
    with pytest.raises(UserError, match="needs its token"):
        trained(tmp_path, [placed(elsewhere)])
    assert elsewhere.num_calls <= 3
