"""The figures of a probe from scores that are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from worldr1_rewards.probes.plan import CLEAN, FLAT, HACKS, Case, ProbePlan, Sample, applies, full_plan, quick_plan
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.probes.summary import as_json, summarise
from worldr1_rewards.probes.world import CORRUPTIONS

NAN = math.nan
CASES = (Case("rich", ("push in",), 0), Case("rich", ("pan left",), 0), Case("soft", ("fixed",), 1))
PLAN = ProbePlan(CASES, (0.5, 1.0), sizes=((144, 144),), lengths=(13,), seeds=(7, 8))


def outcomes(value: Callable[[Sample], float], plan: ProbePlan = PLAN) -> list[Outcome]:
    """A reward that gives every clip a known value."""
    found = []
    for sample in plan.samples():
        got = value(sample)
        reason = "clip 7: frames [0, 3] do not show the same scene" if math.isnan(got) else None
        found.append(Outcome(sample, got, reason, {"one": got, "two": 2 * got}, 0.5, 10.0))
    return found


def perfect(sample: Sample) -> float:
    return 1 - sample.severity if sample.kind in (CLEAN, *CORRUPTIONS) else 0.1


def test_a_perfect_reward_gets_perfect_figures() -> None:
    report = summarise(outcomes(perfect), PLAN)
    assert report["auc"] == dict.fromkeys(CORRUPTIONS, 1.0)
    assert report["spearman"] == dict.fromkeys(CORRUPTIONS, pytest.approx(-1.0))
    assert report["hacks_below_clean"] is True
    assert report["unscored"] == {}
    assert report["hacks"]["blur"]["smallest_margin"] == pytest.approx(0.9)
    assert report["parts"]["two"]["auc"]["morph"] == 1.0
    assert report["cost"] == {"seconds": 0.5, "seconds_max": 0.5, "megabytes": 10.0}


def test_a_reward_that_prefers_corruption_gets_an_auc_of_zero() -> None:
    report = summarise(outcomes(lambda s: s.severity), PLAN)
    assert report["auc"]["morph"] == 0.0
    assert report["spearman"]["morph"] == pytest.approx(1.0)
    assert {f["hack"] for f in report["hacks_below_clean"]} == set(HACKS)


def test_a_plan_may_show_some_of_the_breaks_alone() -> None:
    plan = ProbePlan(CASES[:1], (1.0,), corruptions=("morph", "jitter"), hacks=("frozen",))
    assert [sample.kind for sample in plan.samples()] == [CLEAN, "morph", "jitter", "frozen"]
    report = summarise(outcomes(perfect, plan), plan)
    assert report["auc"] == {"morph": 1.0, "jitter": 1.0}
    assert list(report["hacks"]) == ["frozen"]


def test_a_hack_is_held_against_every_clean_clip_of_its_scene() -> None:
    def value(sample: Sample) -> float:
        own = 0.9 if sample.case == CASES[1] else 0.5
        return own - 0.1 if sample.kind == "blur" else own if sample.kind == CLEAN else 0.0

    failures = summarise(outcomes(value), PLAN)["hacks_below_clean"]
    assert [(f["hack"], f["case"], f["clean_case"]) for f in failures] == [("blur", CASES[1].label, CASES[0].label)]
    assert failures[0]["margin"] == pytest.approx(-0.3)


def test_clips_without_a_score_are_counted_with_their_reason_and_in_no_figure() -> None:
    report = summarise(outcomes(lambda s: NAN if s.kind in ("pure_noise", "morph") else perfect(s)), PLAN)
    assert report["unscored"]["pure_noise"] == {
        "count": 3,
        "of": 3,
        "reasons": {"clip … frames … do not show the same scene": 3},
    }
    assert math.isnan(report["auc"]["morph"])
    assert report["hacks_below_clean"] is True
    assert math.isnan(report["hacks"]["pure_noise"]["smallest_margin"])
    assert report["hacks"]["pure_noise"]["without_score"] == 3
    line = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert line["auc"]["morph"] is None
    assert line["auc"]["bend"] == 1.0


def test_a_clean_clip_without_a_score_is_a_failure() -> None:
    report = summarise(outcomes(lambda s: NAN if s.kind == CLEAN and s.case == CASES[0] else perfect(s)), PLAN)
    assert {f["reason"] for f in report["hacks_below_clean"]} == {"the clean clip has no score"}
    assert {f["case"] for f in report["hacks_below_clean"]} == {CASES[0].label}


def test_sensitivity_names_every_setting_and_the_spread_of_their_means() -> None:
    report = summarise(outcomes(lambda s: s.num_frames / 10 if s.kind == CLEAN else 0.0), PLAN)
    assert report["sensitivity"]["length"]["spread"] == pytest.approx(0.4)
    assert set(report["sensitivity"]["length"]["settings"]) == {"9 frames", "13 frames"}
    assert set(report["sensitivity"]["resolution"]["settings"]) == {"96x96", "144x144"}
    assert set(report["sensitivity"]["seed"]["settings"]) == {"seed 0", "seed 7", "seed 8"}
    assert report["sensitivity"]["resolution"]["spread"] == 0.0


def test_a_camera_that_is_to_stay_may_be_frozen_and_has_no_direction() -> None:
    still = CASES[2]
    assert not any(applies(still, kind) for kind in ("frozen", "repeated", FLAT, "wrong_direction", "wrong_speed"))
    assert all(applies(still, kind) for kind in ("morph", "blur", "unrelated"))
    kinds = {sample.kind for sample in PLAN.samples() if sample.case == still}
    assert "frozen" not in kinds


@pytest.mark.parametrize("plan", [quick_plan(), full_plan()])
def test_shipped_plans_show_every_corruption_and_hack(plan: ProbePlan) -> None:
    samples = list(plan.samples())
    assert {s.kind for s in samples} == {CLEAN, *CORRUPTIONS, *plan.hacks}
    assert {s.varied for s in samples} == {None, "resolution", "length", "seed"}
    assert plan.severities[-1] == 1.0
    assert len(set(samples)) == len(samples)
