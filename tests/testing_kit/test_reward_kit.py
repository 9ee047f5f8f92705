"""Each check of the reward kit passes on a good reward and fails on the one that breaks it, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from testing_kit import broken_rewards
from testing_kit.broken_rewards import ALSO_FAIL, MUTANTS, Good, GoodGradient, GoodReader
from worldr1_core.clip import Clip
from worldr1_core.errors import MissingExtraError, ScoreUnavailable, UserError
from worldr1_core.reward import Requirement, Reward
from worldr1_core.testing import ConformanceError, check_reward, make_clip, reward_checks, true_reconstruction
from worldr1_core.video import Video


def _gray(level: float) -> Clip:
    return Clip(Video(torch.full((3, 3, 16, 16), level)), "Camera push in. A wall.", name=f"gray {level}")


def _reconstruct(clip: Clip):
    return true_reconstruction("arc", clip.video.num_frames, clip.video.size)


GRADIENT_CHECKS = {"gradient-value", "gradient-finite", "gradient-differences"}
ARGUMENTS = {"prefers": [(_gray(0.9), _gray(0.1))], "device": "cpu:0", "reconstruct": _reconstruct}


def _run(reward, **arguments):
    try:
        return check_reward(reward, **{**ARGUMENTS, **arguments})
    except ConformanceError as error:
        return error.report


def test_a_good_reward_passes_every_check():
    report = check_reward(Good, **ARGUMENTS)
    assert report.failed == {}
    assert report.skipped.keys() == {"reconstruction-variants", "judge-failure"} | GRADIENT_CHECKS
    assert len(report.passed) == len(report.outcomes) - 5


def test_a_good_reward_that_reads_its_inputs_passes():
    report = check_reward(GoodReader, device="cpu:0")
    assert report.skipped.keys() == {"direction"} | GRADIENT_CHECKS


def test_a_good_reward_with_a_gradient_passes():
    report = check_reward(GoodGradient, options={"gamma": 0.5}, **ARGUMENTS)
    assert set(report.passed) >= GRADIENT_CHECKS


@pytest.mark.parametrize(("name", "broken"), MUTANTS, ids=[f"{name}-{broken.__name__}" for name, broken in MUTANTS])
def test_the_broken_reward_fails_its_check_alone(name, broken):
    failed = _run(broken).failed
    assert name in failed
    allowed = ALSO_FAIL.get(broken, set())
    assert "*" in allowed or failed.keys() - {name} <= allowed, failed


def test_every_check_has_a_broken_reward():
    assert {name for name, _ in MUTANTS} == {check.name for check in reward_checks(Good)}


def test_a_failure_says_what_why_and_how_to_fix_it():
    with pytest.raises(ConformanceError) as raised:
        check_reward(broken_rewards.Prints)
    message = str(raised.value)
    assert "FAILED prints-nothing: the call printed 'scoring kit arc" in message
    assert "Why: stdout holds JSON lines" in message
    assert "Fix: log with worldr1_core.log.get_logger" in message


def test_every_skipped_check_gives_its_reason():
    report = check_reward(Good)
    assert all(len(reason) > 10 for reason in report.skipped.values())
    assert "prefers=" in report.skipped["direction"]


@pytest.mark.parametrize(
    "check", reward_checks(Good, skip={"direction": "brightness has none", "device": "CPU only"}), ids=str
)
def test_parametrised_checks_run_one_by_one(check):
    check()


def test_a_skip_needs_a_known_check_and_a_reason():
    with pytest.raises(UserError, match="Did you mean 'direction'"):
        reward_checks(Good, skip={"directoin": "because"})
    with pytest.raises(UserError, match="must say why"):
        reward_checks(Good, skip={"direction": " "})


def test_a_declared_skip_is_listed_with_its_reason():
    report = check_reward(broken_rewards.Prints, skip={"prints-nothing": "a demonstration"})
    assert report.skipped["prints-nothing"] == "a demonstration"


@pytest.mark.parametrize("given", [3, "worldr1_x:Y", int])
def test_something_else_than_a_reward_is_refused(given):
    with pytest.raises(UserError, match="Expected a"):
        reward_checks(given)


def test_options_go_with_a_class():
    assert check_reward(Good, options={"gamma": 2.0}).failed == {}
    with pytest.raises(UserError, match="options go with a class"):
        reward_checks(Good(), options={"gamma": 2.0})


def test_instances_and_factories_are_accepted():
    assert check_reward(Good(gamma=2.0)).failed == {}
    assert check_reward(lambda: Good(gamma=2.0)).failed == {}


def test_a_factory_of_something_else_is_no_reward():
    report = _run(lambda: 3)
    assert report.passed == []
    assert report.failed == {"constructs": "<lambda>() must return a Reward, received 3"}


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        (broken_rewards.Detached, "has no gradient (requires_grad is False): it was detached"),
        (broken_rewards.DetachedFrames, "has a gradient, but none in its argument `frames`"),
    ],
)
def test_a_detached_score_is_called_detached(broken, seen):
    failed = _run(broken).failed["gradient-finite"]
    assert seen in failed
    assert "no detach(), item(), numpy() or torch.no_grad" in failed


def test_an_exception_before_an_input_is_read_does_not_make_it_unused():
    failed = _run(FailsBeforeReading).failed
    assert failed["reads-what-it-declares"].startswith("the same failure as in 'number-or-reason'")


class FailsBeforeReading(GoodReader):
    """Fails at once, in [0, 1]."""

    def score(self, clip, inputs):
        return clip.no_such_field


class OnlyTwoFrames(Good):
    """Change of the second frame, in [0, 1]."""

    def score(self, clip, inputs):
        return float((clip.video.frames[1] - clip.video.frames[0]).abs().mean())


def test_an_exception_that_a_check_is_about_comes_with_place_and_fix():
    failed = _run(OnlyTwoFrames, prefers=()).failed["any-size"]
    assert failed.startswith("video of 1 frames, 24x32: a clip raised IndexError")
    assert f"Raised at: {__file__}:" in failed
    assert "Fix: raise ScoreUnavailable for what is too short or too small" in failed


class OnlyLong(Good):
    """Brightness of long clips, in [0, 1]."""

    def score(self, clip: Clip, inputs):
        if clip.video.num_frames < 12:
            raise ScoreUnavailable("shorter than 12 frames")
        return super().score(clip, inputs)


def test_own_clips_replace_those_of_the_kit():
    assert "gives-scores" in _run(OnlyLong, prefers=()).failed
    assert check_reward(OnlyLong, clips=[make_clip("arc", num_frames=12), make_clip("fixed", num_frames=13)])


class NeedsExtra(Good):
    """Needs what is not installed, in [0, 1]."""

    def score(self, clip, inputs):
        raise MissingExtraError("install worldr1-heavy[all]")


def test_what_is_not_installed_is_skipped_with_the_reason():
    report = check_reward(NeedsExtra)
    assert "install worldr1-heavy[all]" in report.skipped["deterministic"]


class ReadsOwnClips(Reward):
    """Extent of the path, in [0, inf)."""

    requires = frozenset({Requirement.RECONSTRUCTION})

    def score(self, clip, inputs):
        return inputs.reconstruction.trajectory.extent


def test_own_clips_come_with_their_reconstruction():
    clips = [replace(make_clip("arc"), name=name) for name in ("a", "b")]
    assert check_reward(ReadsOwnClips, clips=clips, reconstruct=_reconstruct).failed == {}
    assert "number-or-reason" in _run(ReadsOwnClips, clips=clips, reconstruct=None, prefers=()).failed


class StartsWithExtra(Good):
    """Needs what is not installed, in [0, 1]."""

    def __init__(self, config=None, *, device="cpu", **options):
        raise MissingExtraError("install worldr1-heavy[all]")


def test_what_is_not_installed_to_construct_it_skips_every_check():
    report = check_reward(StartsWithExtra)
    assert (report.passed, report.failed) == ([], {})
    assert "install worldr1-heavy[all]" in report.skipped["constructs"]
