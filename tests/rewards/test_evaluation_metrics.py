"""Rewards that are there to be looked at: psnr, camera-accuracy, and statistics of the frames alone."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch.nn import functional

from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.camera.vocabulary import SINGLE_MOVES
from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable
from worldr1_core.plugins import installed
from worldr1_core.reward import RewardInputs
from worldr1_core.testing import check_reward
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.camera_accuracy import CameraAccuracyReward
from worldr1_rewards.rewards.frame_statistics import ContrastReward, MeanGradientReward, MotionReward
from worldr1_rewards.rewards.rerender_psnr import NormalisedPSNRReward, PSNRReward
from worlds.truth import true_reconstruction

GRADIENTS = ["mean-gradient", "gradient-x", "gradient-y", "typical-gradient-x", "typical-gradient-y"]
STATISTICS = [*GRADIENTS, "row-variance", "column-variance", "sharpness-evenness", "contrast", "motion"]
NAMES = ["psnr", "psnr-normalised", "camera-accuracy", *STATISTICS]


@lru_cache(maxsize=64)
def world(moves: str = "move right", corruption: str = "clean", seed: int = 0) -> Any:
    return render_world("rich", moves, seed=seed, size=(64, 64), num_frames=9, corruption=corruption)


def clip_of(frames: torch.Tensor, prompt: str = "") -> Clip:
    return Clip(Video(frames), prompt, trajectory_from_prompt(prompt, len(frames)))


def value(reward: Any, frames: torch.Tensor, prompt: str = "", inputs: RewardInputs | None = None) -> float:
    return reward.score(clip_of(frames, prompt), inputs or RewardInputs()).value


@pytest.mark.parametrize("name", NAMES)
def test_every_contract_of_rewards_is_kept(name):
    report = check_reward(
        installed().registry.load("reward", name),
        skip={"gives-scores": "the kit's clips command paths beside the nine"} if name == "camera-accuracy" else None,
    )
    assert {"deterministic", "batch-and-order"} <= set(report.passed)


def test_psnr_is_that_of_the_rerender_over_covered_pixels():
    shown = world()
    render = true_reconstruction(shown).rerender()
    error = ((render.frames - shown.frames).square().mean(1) * render.coverage).sum((1, 2)) / render.coverage.sum(
        (1, 2)
    )
    expected = float((-10 * torch.log10(error)).mean())
    assert value(PSNRReward(), shown.frames, inputs=RewardInputs(true_reconstruction(shown))) == pytest.approx(expected)


@pytest.mark.parametrize("reward", [PSNRReward(), NormalisedPSNRReward()])
def test_a_scene_that_morphs_is_rerendered_worse(reward):
    clean, broken = world(), world(corruption="morph")
    truth = true_reconstruction(clean)
    before = value(reward, clean.frames, inputs=RewardInputs(truth))
    after = value(reward, broken.frames, inputs=RewardInputs(replace(truth, frames=broken.frames)))
    assert before > after + 2


def test_fading_raises_psnr_and_not_the_normalised_one():
    clean = world()
    faded = 0.5 + (clean.frames - 0.5) * 0.3
    pairs = {}
    for reward in (PSNRReward(), NormalisedPSNRReward()):
        pairs[type(reward)] = [
            value(reward, frames, inputs=RewardInputs(replace(true_reconstruction(clean), frames=frames)))
            for frames in (clean.frames, faded)
        ]
    assert pairs[PSNRReward][1] > pairs[PSNRReward][0] + 8
    assert pairs[NormalisedPSNRReward][1] < pairs[NormalisedPSNRReward][0] + 1


@pytest.mark.parametrize("reward", [PSNRReward(), NormalisedPSNRReward()])
def test_psnr_without_a_reconstruction_is_the_scorers_mistake(reward):
    with pytest.raises(PluginError, match="needs a reconstruction"):
        value(reward, world().frames)


@pytest.mark.parametrize("move", [str(move).replace("_", " ") for move in SINGLE_MOVES])
def test_every_single_move_is_recognised(move):
    shown = world(move, seed=2)
    score = CameraAccuracyReward().score(clip_of(shown.frames, shown.prompt), RewardInputs())
    assert score.value == 1.0
    assert score.details["margin"] > 0


@pytest.mark.parametrize("hack", ["wrong_direction", "frozen"])
def test_disobedience_is_recognised(hack):
    shown = world("push in", hack, seed=2)
    score = CameraAccuracyReward().score(clip_of(shown.frames, shown.prompt), RewardInputs())
    assert score.value == 0.0
    assert score.details["best"] == {"wrong_direction": "pull_out", "frozen": "fixed"}[hack]


@pytest.mark.parametrize("corruption", ["pure_noise", "unrelated"])
def test_frames_that_have_nothing_to_do_with_one_another_obey_no_command(corruption):
    """One move is always the best of nine: that alone would call one of these commands obeyed."""
    frames = world("push in", corruption, seed=3).frames
    scores = [CameraAccuracyReward().score(clip_of(frames, f"Camera {move}. A room."), RewardInputs())
              for move in ("push in", "orbit left", "pan left")]  # fmt: skip
    assert [score.value for score in scores] == [0.0, 0.0, 0.0]
    assert max(score.details["correlation"] for score in scores) < 0.06


@pytest.mark.parametrize("prompt", ["A room.", "Camera push in, then pan left. A room.", "Camera pull_left. A room."])
def test_prompts_without_one_single_move_do_not_apply(prompt):
    with pytest.raises(ScoreNotApplicable, match="nine single camera moves"):
        value(CameraAccuracyReward(), world().frames, prompt)


@pytest.mark.parametrize("frames", [torch.full((9, 3, 32, 32), 0.5), torch.rand(2, 3, 32, 32), torch.rand(9, 3, 8, 8)])
def test_camera_that_cannot_be_seen_is_no_score(frames):
    with pytest.raises(ScoreUnavailable):
        value(CameraAccuracyReward(), frames, "Camera push in. A room.")


def test_known_intrinsics_are_used():
    wide = render_world("rich", "pan left", seed=4, size=(64, 64), num_frames=9, fov=75.0)
    clip = replace(clip_of(wide.frames, wide.prompt), intrinsics=wide.intrinsics)
    known = CameraAccuracyReward().score(clip, RewardInputs())
    guessed = CameraAccuracyReward().score(replace(clip, intrinsics=None), RewardInputs())
    assert known.value == 1.0
    assert known.details["margin"] > guessed.details["margin"]


def test_blur_costs_gradient_and_fading_costs_contrast():
    frames = world().frames
    blurred = functional.avg_pool2d(functional.pad(frames, (2, 2, 2, 2), mode="replicate"), 5, 1)
    assert value(MeanGradientReward(), blurred) < 0.7 * value(MeanGradientReward(), frames)
    assert value(ContrastReward(), 0.5 + (frames - 0.5) / 2) == pytest.approx(value(ContrastReward(), frames) / 2)


def test_gradient_of_a_checkerboard_is_two():
    board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).float().expand(2, 3, 8, 8)
    assert value(MeanGradientReward(), board) == pytest.approx(2.0)


def statistic(name: str) -> Any:
    return installed().registry.load("reward", name)()


def test_stripes_are_told_by_their_direction():
    """Horizontal stripes of 0.2 and 0.8: the pixel below differs, the one beside does not; the rows vary by 0.3²."""
    stripes = torch.tensor([0.2, 0.8]).repeat(4)[:, None].expand(3, 3, 8, 10)
    upright = stripes.transpose(-1, -2)
    for lying, standing, expected in (("gradient-y", "gradient-x", 0.6), ("row-variance", "column-variance", 0.09)):
        assert value(statistic(lying), stripes) == pytest.approx(expected) == value(statistic(standing), upright)
        assert value(statistic(standing), stripes) == pytest.approx(0, abs=1e-9)
        assert value(statistic(lying), upright) == pytest.approx(0, abs=1e-9)


def test_a_line_makes_a_mean_gradient_but_no_typical_one():
    """Detail of 0.02 everywhere, or a flat picture with one line across it of as much gradient in the mean."""
    detail = 0.5 + 0.02 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float().expand(2, 3, 64, 64)
    line = torch.full((2, 3, 64, 64), 0.2)
    line[:, :, 32] += 0.02 * 63 / 2
    assert value(statistic("gradient-y"), line) == pytest.approx(value(statistic("gradient-y"), detail), rel=1e-3)
    for name in ("typical-gradient-x", "typical-gradient-y"):
        assert value(statistic(name), detail) == pytest.approx(0.02, rel=1e-3)
        assert value(statistic(name), line) < 0.002


def test_row_and_column_variance_are_those_of_mean_luminance():
    frames = world().frames
    grey = frames.numpy().astype("float64").transpose(0, 2, 3, 1) @ [0.299, 0.587, 0.114]
    assert value(statistic("row-variance"), frames) == pytest.approx(grey.mean(2).var(1).mean(), rel=1e-4)
    assert value(statistic("column-variance"), frames) == pytest.approx(grey.mean(1).var(1).mean(), rel=1e-4)


def test_a_fine_pattern_on_one_frame_is_uneven_sharpness():
    frames = world().frames
    mesh = frames.clone()
    pattern = 0.05 * torch.tensor([-1.0, 1.0]).repeat(frames.shape[-1] // 2)
    mesh[0] = (mesh[0] + pattern).clamp(0, 1)
    assert value(statistic("sharpness-evenness"), mesh) < 0.8 * value(statistic("sharpness-evenness"), frames)
    still = frames[:1].expand(4, -1, -1, -1)
    assert value(statistic("sharpness-evenness"), still) == pytest.approx(1)
    ramp = torch.linspace(0, 1, 8).expand(2, 3, 8, 8)
    with pytest.raises(ScoreUnavailable, match="no texture"):
        value(statistic("sharpness-evenness"), ramp)


def test_sharpness_is_the_mean_second_difference():
    frames = torch.zeros(2, 3, 4, 4)
    frames[0, :, 1, 1] = 0.3  # along each axis: |.3| once, |-.6| once, of 8 second differences of 3 channels
    frames[1, :, 1, 1] = 0.6
    assert value(statistic("sharpness-evenness"), frames) == pytest.approx(0.5)


def test_both_gradients_add_up_to_the_mean_gradient():
    frames = world().frames
    both = value(statistic("gradient-x"), frames) + value(statistic("gradient-y"), frames)
    assert both == pytest.approx(value(MeanGradientReward(), frames))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_have_the_same_value_and_a_gradient_frame_by_frame(name):
    clips = [clip_of(world(move).frames) for move in ("move right", "push in")]
    if name == "motion":
        clips.append(clip_of(torch.full((9, 3, 64, 64), 0.3)))
    frames = torch.stack([clip.video.frames for clip in clips]).requires_grad_()
    values = statistic(name).score_frames(frames, clips, [RewardInputs()] * len(clips))
    expected = [statistic(name).score(clip, RewardInputs()).value for clip in clips[:2]]
    assert values[:2].tolist() == pytest.approx(expected, rel=1e-6)
    assert bool(values[2:].isnan().all())
    [gradient] = torch.autograd.grad(values.nansum(), frames)
    assert torch.isfinite(gradient).all()
    assert gradient[:2].flatten(1).abs().amax(1).min() > 0 == gradient[2:].abs().sum()


def test_motion_grows_with_the_way_and_is_zero_at_rest():
    still = value(MotionReward(), world("push in", "frozen").frames)
    half = value(MotionReward(), world("push in", "wrong_speed").frames)
    whole = value(MotionReward(), world("push in").frames)
    assert still == 0.0
    assert 0 < half < whole


def test_motion_does_not_change_when_the_clip_fades():
    frames = world("push in").frames
    assert value(MotionReward(), 0.5 + (frames - 0.5) * 0.4) == pytest.approx(value(MotionReward(), frames), rel=1e-4)


@pytest.mark.parametrize("frames", [torch.rand(1, 3, 16, 16), torch.full((4, 3, 16, 16), 0.3)])
def test_motion_that_cannot_be_seen_is_no_score(frames):
    with pytest.raises(ScoreUnavailable):
        value(MotionReward(), frames)
