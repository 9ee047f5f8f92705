"""The gate for our own rewards: what they promise, measured by the probe."""

from __future__ import annotations

from worldr1_rewards.probes.plan import Case, ProbePlan
from worldr1_rewards.probes.run import run_probe
from worldr1_rewards.probes.summary import summarise
from worldr1_rewards.scoring import Scorer

REFUSED = {"pure_noise", "unrelated", "grey_fade", "scene_cut"}
"""Hacks that may have no score: their frames do not show one scene."""


def test_default_composition_ranks_one_scene_as_it_should() -> None:
    plan = ProbePlan((Case("rich", ("push in",), 0),), (1.0,))
    report = summarise(list(run_probe(Scorer.from_manifest(), plan)), plan)
    assert report["auc"] == dict.fromkeys(report["auc"], 1.0)
    assert report["hacks_below_clean"] is True
    assert report["unscored"].keys() <= REFUSED
    assert report["hacks"]["frozen"]["smallest_margin"] > 1
