"""The gate for our own rewards: what they promise, measured by the probe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worldr1_rewards.probes.plan import Case, ProbePlan, full_plan
from worldr1_rewards.probes.run import run_probe
from worldr1_rewards.probes.summary import summarise
from worldr1_rewards.scoring import Scorer

REFUSED = {"pure_noise", "unrelated", "grey_fade", "scene_cut"}
"""Hacks that may have no score: their frames do not show one scene."""
MAX_REFUSED = 2
"""Corrupted clips of a kind that may have none, out of 63."""


@pytest.mark.slow
def test_default_composition_ranks_one_scene_as_it_should() -> None:
    plan = ProbePlan((Case("rich", ("push in",), 0),), (1.0,))
    report = summarise(list(run_probe(Scorer().engine, plan)), plan)
    assert report["auc"] == dict.fromkeys(report["auc"], 1.0)
    assert report["hacks_below_clean"] is True
    assert report["unscored"].keys() <= REFUSED
    assert report["hacks"]["frozen"]["smallest_margin"] > 1


@pytest.mark.slow
def test_default_composition_ranks_every_family_as_it_should() -> None:
    plan = replace(full_plan(seed=1), num_varied=0)
    report = summarise(list(run_probe(Scorer().engine, plan)), plan)
    assert {kind: value for kind, value in report["auc"].items() if not value >= 0.95} == {}
    assert {kind: value for kind, value in report["auc_mean"].items() if not value >= 0.9} == {}
    assert {kind: value for kind, value in report["spearman"].items() if not value <= -0.85} == {}
    assert report["hacks_below_clean"] is True
    refused = {kind: entry["count"] for kind, entry in report["unscored"].items() if kind not in REFUSED}
    assert all(count <= MAX_REFUSED for count in refused.values()), refused
