"""Probes of rewards that run in another process."""

from __future__ import annotations

from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.placement import PlacedReward, RemoteScorer, ScoredClip
from worldr1_core.plugins import installed
from worldr1_core.reward import Score
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards.probes.plan import CLEAN, Case, ProbePlan
from worldr1_rewards.probes.run import run_samples
from worldr1_rewards.probes.structure import unprobed_structure
from worldr1_rewards.rewards.frame_statistics import ContrastReward


class Constant(RemoteScorer):
    def score(self, clips, rewards, *, with_reference):
        return [ScoredClip({name: Score(0.5) for name in rewards}) for _ in clips]


def placed(name: str) -> WeightedReward:
    return WeightedReward(name, 1.0, PlacedReward(name, reads_reference=False, scorer=Constant()))


def test_memory_of_another_process_is_unknown():
    plan = ProbePlan((Case("rich", ("push in",), 0),), (1.0,), (24, 24), 3, seeds=(1,))
    sample = next(sample for sample in plan.samples() if sample.kind == CLEAN)
    here = WeightedReward("contrast", 1.0, ContrastReward())
    for rewards, is_known in (([here], True), ([placed("contrast")], False), ([here, placed("motion")], False)):
        (outcome,) = run_samples(ScoringEngine(ScoringComponents(rewards, None, None)), [sample])
        assert (outcome.megabytes is not None) == is_known


def test_rewards_whose_structure_is_not_probed_are_named():
    here = WeightedReward("meta-view", 1.0, installed().registry.load("reward", "meta-view")())
    rewards = [placed("meta-view"), placed("reconstruction"), placed("contrast")]
    assert unprobed_structure(rewards, installed().registry) == ["meta-view"]
    assert unprobed_structure([here], installed().registry) == []
