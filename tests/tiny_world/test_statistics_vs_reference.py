"""`statistics-vs-reference`: the statistics of the model before training are the floors, prompt by prompt."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch

from worldr1_backbones.tiny.captions import parse_caption
from worldr1_backbones.tiny.data import clip_of as make_tiny_clip
from worldr1_backbones.tiny.data import render_clip
from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.compose import compose_scoring
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, UserError
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.reward import RewardInputs, Score
from worldr1_core.scoring import ScoringEngine
from worldr1_core.testing import check_reward
from worldr1_core.video import Video
from worldr1_rewards.rewards.frame_statistics import ContrastReward, MeanGradientReward, MotionReward
from worldr1_rewards.rewards.statistics_threshold import StatisticsThresholdReward
from worldr1_rewards.rewards.statistics_vs_reference import StatisticsVsReferenceReward

METRICS = {"mean_gradient": MeanGradientReward, "contrast": ContrastReward, "motion": MotionReward}


@lru_cache(maxsize=8)
def frames_of(moves: str) -> torch.Tensor:
    caption = f"Camera {moves}. A red box and a blue ball in a green room with checker walls."
    return render_clip(make_tiny_clip(parse_caption(caption), seed=0))


def graded(frames: torch.Tensor, reference: torch.Tensor | None, prompt: str = "Camera move right.", **config) -> Score:
    clip = Clip(Video(frames), prompt, trajectory_from_prompt(prompt, len(frames)))
    inputs = RewardInputs(reference=None if reference is None else Video(reference))
    return StatisticsVsReferenceReward(**config).score(clip, inputs)


def test_every_contract_of_rewards_is_kept():
    report = check_reward(StatisticsVsReferenceReward)
    assert {"deterministic", "batch-and-order", "reads-what-it-declares"} <= set(report.passed)


def test_a_clip_keeps_its_own_statistics_and_gains_nothing_by_more():
    frames = frames_of("move right")
    assert graded(frames, frames).value == pytest.approx(1)
    assert graded(frames, 0.5 + 0.8 * (frames - 0.5)).value == pytest.approx(1)


@pytest.mark.parametrize("name", METRICS)
def test_each_statistic_is_the_share_that_its_metric_says(name):
    reference, frames = frames_of("push in"), frames_of("move right") * 0.7
    only = dict.fromkeys(METRICS, 0.0) | {name: 2.0}
    own, before = (float(METRICS[name]().score(Clip(Video(f)), RewardInputs()).value) for f in (frames, reference))
    found = graded(frames, reference, **only)
    assert found.value == pytest.approx(min(1, own / (2 * before)), rel=0.02)
    assert found.details == {name: pytest.approx(found.value)}


@pytest.mark.parametrize("spoil", ["blur", "fade", "slow"])
def test_blur_fading_and_slowness_lose(spoil):
    frames = frames_of("move right")
    spoilt = {
        "blur": torch.nn.functional.avg_pool2d(frames, 5, 1, 2, count_include_pad=False),
        "fade": 0.5 + 0.5 * (frames - 0.5),
        "slow": frames[torch.arange(len(frames)) // 2],
    }[spoil]
    assert graded(spoilt, frames).value < 0.93


def test_a_camera_that_shall_rest_owes_no_motion():
    frames = frames_of("move right")
    still = frames[:1].expand_as(frames)
    assert graded(still, frames, "Camera fixed.").value > 0.9 > graded(still, frames).value
    with pytest.raises(ScoreNotApplicable, match="rests"):
        graded(still, frames, "Camera fixed.", mean_gradient=0, contrast=0)


def test_a_reference_that_shows_nothing_asks_nothing():
    frames = frames_of("move right")
    grey = torch.full_like(frames, 0.5)
    assert graded(grey, frames).value < 0.1
    with pytest.raises(ScoreNotApplicable, match="could be kept"):
        graded(frames, grey)


def test_without_a_fitting_reference_there_is_no_score():
    frames = frames_of("move right")
    with pytest.raises(ScoreUnavailable, match="no reference"):
        graded(frames, None)
    with pytest.raises(ScoreUnavailable, match="shape"):
        graded(frames, frames[:5])
    with pytest.raises(ScoreUnavailable, match="every share is 0"):
        graded(frames, frames, mean_gradient=0, contrast=0, motion=0)
    with pytest.raises(UserError, match="motion"):
        StatisticsVsReferenceReward(motion=-1)


def test_score_frames_has_the_value_of_score_and_raises_what_is_below_the_reference():
    reference = frames_of("move right")
    prompts = ["Camera move right.", "Camera fixed.", "Camera move right."]
    clips = [Clip(Video(0.7 * reference), prompt, trajectory_from_prompt(prompt, 9)) for prompt in prompts]
    inputs = [RewardInputs(reference=Video(reference))] * 2 + [RewardInputs()]
    reward = StatisticsVsReferenceReward()
    frames = torch.stack([clip.video.frames for clip in clips]).requires_grad_()
    values = reward.score_frames(frames, clips, inputs)
    expected = [reward.score(clip, given).value for clip, given in zip(clips[:2], inputs, strict=False)]
    assert values.tolist() == pytest.approx([*expected, float("nan")], rel=1e-6, nan_ok=True)
    [gradient] = torch.autograd.grad(values.nansum(), frames)
    better = replace(clips[0], video=Video(clips[0].video.frames + 0.01 * gradient[0] / gradient.abs().max()))
    assert reward.score(better, inputs[0]).value > expected[0]
    assert gradient[2].abs().max() == 0


def test_what_reaches_its_floor_has_no_gradient():
    clip = Clip(Video(frames_of("move right")), "")
    frames = clip.video.frames[None].clone().requires_grad_()
    for floor, steep in ((0.01, False), (0.49, True)):
        reward = StatisticsThresholdReward(contrast=floor)
        score = reward.score_frames(frames, [clip], [RewardInputs()])
        assert float(score.detach()) == pytest.approx(reward.score(clip, RewardInputs()).value, rel=1e-6)
        [gradient] = torch.autograd.grad(score.sum(), frames)
        assert bool(gradient.any()) == steep


def test_a_scorer_hands_on_the_reference_of_the_clip():
    registry = installed().registry
    manifest = parse_manifest("version: 1\nrewards: [{name: statistics-vs-reference}]\n", registry)
    scorer = ScoringEngine(compose_scoring(manifest, registry))
    frames = frames_of("move right")
    clip = Clip(Video(0.5 * frames), "", trajectory_from_prompt("Camera move right.", len(frames)))
    [with_one, without] = scorer.score([replace(clip, reference=Video(frames)), clip])
    assert 0 < with_one.total < 1
    assert "no reference" in str(without.scores["statistics-vs-reference"].reason)


def test_a_grey_clip_keeps_nothing():
    frames = frames_of("move right")
    assert graded(torch.full_like(frames, 0.5), frames).value == 0.0
