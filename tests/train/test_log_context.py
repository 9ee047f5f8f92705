"""Ids of run, step, sample and prompt in what rewards log during training, and the spans of a rollout."""

from __future__ import annotations

import pytest
from structlog.contextvars import get_contextvars

from spans import recorded  # noqa: F401 - a fixture
from train.fake_world import Brightness
from train.runs import PROMPTS, make_stage, make_trainer
from worldr1_core.compose import WeightedReward
from worldr1_core.log_ids import prompt_id
from worldr1_core.placement import PlacedReward, RemoteScorer, ScoredClip
from worldr1_core.reward import RewardInputs, Score
from worldr1_train.log_context import StepId, run_ids


class Elsewhere(RemoteScorer):
    """Keeps the ids that are bound where a client would send them."""

    def __init__(self):
        self.seen = []

    def score(self, clips, rewards, *, with_reference):
        self.seen.append(dict(get_contextvars()))
        return [
            ScoredClip({name: Score(Brightness().score(clip, RewardInputs())) for name in rewards}) for clip in clips
        ]


class Watched(Brightness):
    """Keeps the ids that are bound while it scores."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def score(self, clip, inputs):
        self.seen.append(dict(get_contextvars()))
        return super().score(clip, inputs)


@pytest.fixture
def rewards():
    return Watched(), Elsewhere()


@pytest.fixture
def train(tmp_path, rewards):
    def run(**options):
        here, elsewhere = rewards
        weighted = [
            WeightedReward("here", 1.0, here),
            WeightedReward("there", 1.0, PlacedReward("there", reads_reference=False, scorer=elsewhere)),
        ]
        with run_ids(tmp_path / "tiny"):
            trainer = make_trainer(
                tmp_path / "tiny", stages=[make_stage(rewards=weighted)], callbacks=[StepId()], max_steps=2, **options
            )
            trainer.train()

    return run


def test_rewards_here_and_elsewhere_see_run_and_step(train, rewards):
    train()
    for reward in rewards:
        assert {(ids["run"], ids["step"]) for ids in reward.seen} == {("tiny", 1), ("tiny", 2)}
    assert "step" not in get_contextvars()


def test_a_clip_that_is_scored_alone_has_its_sample_and_prompt(rewards, make_clip):
    from worldr1_core.scoring import ScoringEngine

    here, _ = rewards
    stage = make_stage(rewards=[WeightedReward("here", 1.0, here)])
    assert isinstance(stage.scorer, ScoringEngine)
    list(stage.scorer.score([make_clip(name="sample 4", prompt=PROMPTS[0])]))
    assert here.seen == [{"sample": "sample 4", "prompt": prompt_id(PROMPTS[0])}]


def test_scores_of_a_rollout_belong_to_its_trace(train, recorded):  # noqa: F811
    train()
    spans = recorded.get_finished_spans()
    rollouts = [span for span in spans if span.name == "rollout"]
    assert [span.attributes["worldr1.rollout_batch"] for span in rollouts] == [0, 1]
    for name in ("sample", "score"):
        own = [span for span in spans if span.name == name]
        assert {span.parent.span_id for span in own} == {span.context.span_id for span in rollouts}
