"""Scenes in which objects move: honest motion is a variation of clean clips, an object that morphs is a corruption."""

from __future__ import annotations

import torch

from worldr1_rewards.probes.plan import CLEAN, Case, ProbePlan, full_plan, quick_plan
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.probes.summary import summarise
from worldr1_rewards.probes.world import CORRUPTIONS, MORPHING_OBJECT, MOTIONS, build_scene, intrinsics, render_world
from worldr1_rewards.probes.world.corruptions import moved, visible_solids


def test_plans_without_moving_objects_are_as_before():
    for plan in (quick_plan(), full_plan()):
        kinds = {sample.kind for sample in plan.samples()}
        assert not kinds & {*MOTIONS, MORPHING_OBJECT}
        assert plan.variations == ("resolution", "length", "seed")


def test_honest_motion_is_compared_with_scenes_at_rest():
    plan = quick_plan(moving=True)
    samples = list(plan.samples())
    assert {s.kind for s in samples if s.varied == "motion"} == set(MOTIONS)
    assert {s.case for s in samples if s.varied == "motion"} == set(plan.varied_cases)
    assert {s.kind for s in samples if s.varied is None} == {CLEAN, *CORRUPTIONS, MORPHING_OBJECT, *plan.hacks}
    fair = {**dict.fromkeys((CLEAN, *MOTIONS), 0.9), MORPHING_OBJECT: 0.2}
    outcomes = [Outcome(s, fair.get(s.kind, 0.1), None, {}, 0.0, 1.0) for s in samples]
    report = summarise(outcomes, plan)
    assert report["sensitivity"]["motion"]["spread"] == 0
    assert list(report["sensitivity"]["motion"]["settings"]) == [
        "nothing moves",
        "one object moves",
        "two objects move",
    ]
    assert report["auc"][MORPHING_OBJECT] == 1.0


def test_objects_keep_their_shape_and_the_rest_stays():
    scene = build_scene("rich", 0)
    target = visible_solids(scene, torch.eye(4, dtype=torch.float64), intrinsics((32, 32)), (32, 32))[0]
    end = moved(scene, 1.0, 1.0, [target])
    for index, (before, after) in enumerate(zip(scene.solids, end.solids, strict=True)):
        assert torch.equal(before.half, after.half)
        assert torch.equal(before.centre, after.centre) == (index != target)


def test_only_the_object_changes_in_the_picture():
    case = Case("rich", ("fixed",), 0)
    plan = ProbePlan((case,), (1.0,), size=(32, 32), num_frames=3, motions=("moving_object",), hacks=(), corruptions=())
    clean, moving = (sample.render().frames for sample in plan.samples())
    assert torch.equal(clean[0], moving[0]), "the first frame is the undisturbed scene"
    changed = (clean[2] != moving[2]).any(0).float().mean()
    assert 0 < changed < 0.7
    again = render_world("rich", "fixed", size=(32, 32), num_frames=3, corruption="moving_object").frames
    assert torch.equal(moving, again)
