"""Rewards by plane sweep along the commanded path, and the floor under sharpness, contrast and motion."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch.nn import functional

from worldr1_backbones.tiny.captions import parse_caption
from worldr1_backbones.tiny.data import clip_of as make_tiny_clip
from worldr1_backbones.tiny.data import render_clip
from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.camera.vocabulary import DEFAULT_CONSTANTS, SINGLE_MOVES, Move, trajectory_from_moves
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, TrajectoryError, UserError
from worldr1_core.plugins import installed
from worldr1_core.reward import RewardInputs, Score
from worldr1_core.testing import check_reward
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.camera_accuracy import CameraAccuracyReward
from worldr1_rewards.rewards.frame_statistics import ContrastReward
from worldr1_rewards.rewards.plane_sweep import to_psnr
from worldr1_rewards.rewards.single_moves import path_key
from worldr1_rewards.rewards.statistics_threshold import StatisticsThresholdReward
from worldr1_rewards.rewards.swept_rewards import CameraMoveLikelihoodReward, PathRerenderReward, _Errors

REWARDS = (PathRerenderReward, CameraMoveLikelihoodReward)


@lru_cache(maxsize=64)
def frames_of(moves: str) -> torch.Tensor:
    """A clip of the tiny world, whose camera goes exactly as commanded."""
    caption = f"Camera {moves}. A red box and a blue ball in a green room with checker walls."
    return render_clip(make_tiny_clip(parse_caption(caption), seed=0))


def clip_of(frames: torch.Tensor, prompt: str) -> Clip:
    return Clip(Video(frames), prompt, trajectory_from_prompt(prompt, len(frames)))


def value(reward, frames, prompt):
    return reward.score(clip_of(frames, prompt), RewardInputs()).value


@pytest.mark.parametrize("name", ["path-rerender", "camera-move-likelihood", "statistics-threshold"])
def test_every_contract_of_rewards_is_kept(name):
    reward = installed().registry.load("reward", name)
    report = check_reward(reward(contrast=0.2) if name == "statistics-threshold" else reward)
    assert {"deterministic", "batch-and-order"} <= set(report.passed)


@pytest.mark.parametrize("move", SINGLE_MOVES, ids=str)
def test_the_commanded_move_earns_more_than_another(move):
    prompt = f"Camera {move.phrase}."
    other = SINGLE_MOVES[(SINGLE_MOVES.index(move) + 1) % len(SINGLE_MOVES)]
    for reward in (PathRerenderReward(), CameraMoveLikelihoodReward()):
        own, wrong = value(reward, frames_of(move.phrase), prompt), value(reward, frames_of(other.phrase), prompt)
        assert own > wrong + 0.05


@pytest.mark.parametrize(("reward", "share"), [(PathRerenderReward, 0.05), (CameraMoveLikelihoodReward, 0.75)])
def test_a_clip_that_stands_still_earns_less_than_one_that_moves(reward, share):
    moving = frames_of("move right")
    still = moving[:1].expand_as(moving)
    assert value(reward(), still, "Camera move right.") <= share * value(reward(), moving, "Camera move right.")


@pytest.mark.parametrize("move", ["pull out", "move left", "orbit right", "pan left"])
def test_a_grainy_clip_at_half_speed_earns_less_than_at_full_speed(move):
    """Clean renders are explained at any speed; where grain hides detail, less motion is less to explain."""
    path = trajectory_from_prompt(f"Camera {move}.", 17)
    clip = make_tiny_clip(
        parse_caption(f"Camera {move}. A red box and a blue ball in a green room with checker walls."), 0
    )
    slow = replace(clip, path=replace(clip.path, c2w=path.scaled(clip.path.scene_depth / path.scene_depth).c2w[:9]))
    grain = 0.06 * torch.randn(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    full, half = (
        value(PathRerenderReward(), (render_clip(c) + grain).clamp(0, 1), f"Camera {move}.") for c in (clip, slow)
    )
    assert half < 0.99 * full


def test_a_camera_told_to_rest_owes_no_motion():
    frames = frames_of("fixed")
    reward = StatisticsThresholdReward(contrast=1e-3, motion=100)
    assert value(reward, frames, "Camera fixed.") == 1.0
    assert value(reward, frames, "Camera push in.") < 0.6
    with pytest.raises(ScoreNotApplicable, match="rests"):
        value(StatisticsThresholdReward(motion=1), frames, "Camera fixed.")


def test_blur_does_not_pay_much_and_a_bent_world_costs():
    reward, moving = PathRerenderReward(), frames_of("move right")
    clean = reward.score(clip_of(moving, "Camera move right."), RewardInputs())
    blurred = functional.avg_pool2d(moving, 5, 1, 2)
    assert value(reward, blurred, "Camera move right.") < clean.value + 0.1
    bent = render_world("rich", "move right", size=(64, 64), num_frames=9, corruption="bend").frames
    straight = render_world("rich", "move right", size=(64, 64), num_frames=9).frames
    assert value(reward, bent, "Camera move right.") < value(reward, straight, "Camera move right.")


@pytest.mark.parametrize("move", [move for move in SINGLE_MOVES if move is not Move.FIXED], ids=str)
def test_a_line_that_the_path_leaves_in_place_earns_nothing_along_the_path(move):
    """A horizontal line at half height lies along the displacement there: it raises the local contrast for nothing."""
    prompt, grain = f"Camera {move.phrase}.", torch.randn(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    frames = 0.2 + 0.6 * (frames_of(move.phrase) + 0.06 * grain).clamp(0, 1)
    lined = frames.clone()
    lined[..., 31, :] += 0.2
    lined[..., 32, :] -= 0.2
    options = {"gain_power": 0.0, "normalised_error": 3.0}
    gains = []
    for contrast in ("any-direction", "along-path"):
        reward = PathRerenderReward(contrast=contrast, **options)
        gains.append(value(reward, lined, prompt) - value(reward, frames, prompt))
    assert gains[0] > 0.003
    assert gains[1] < 0.2 * gains[0]


@pytest.mark.parametrize("move", SINGLE_MOVES, ids=str)
def test_the_commanded_move_earns_more_along_the_path_too(move):
    prompt = f"Camera {move.phrase}."
    other = SINGLE_MOVES[(SINGLE_MOVES.index(move) + 1) % len(SINGLE_MOVES)]
    for reward in (PathRerenderReward(contrast="along-path"), CameraMoveLikelihoodReward(contrast="along-path")):
        own, wrong = value(reward, frames_of(move.phrase), prompt), value(reward, frames_of(other.phrase), prompt)
        assert own > wrong + 0.05


def test_a_place_that_does_not_hold_together_loses_there():
    reward, prompt = PathRerenderReward, "Camera move right. A room."
    frames = frames_of("move right")
    broken = frames.clone()
    broken[:, :, 40:, 40:] = torch.rand(len(frames), 3, 24, 24, generator=torch.Generator().manual_seed(0))
    whole, part = (reward().score(clip_of(f, prompt), RewardInputs()) for f in (frames, broken))
    assert whole.spatial_map.shape == (8, 8)
    change = part.spatial_map - whole.spatial_map
    assert change[6:, 6:].mean() < -0.15
    assert abs(change[:3, :3].nanmean()) < 0.05
    assert part.value < whole.value


def test_a_place_that_obeys_another_command_loses_there_and_places_add_up_to_nothing():
    prompt, rest = "Camera move right. A room.", frames_of("move right")
    torn = rest.clone()
    torn[..., 32:] = frames_of("move left")[..., 32:]
    whole, part = (CameraMoveLikelihoodReward().score(clip_of(f, prompt), RewardInputs()) for f in (rest, torn))
    assert part.spatial_map.shape == (8, 8)
    assert part.spatial_map[:, 5:].nanmean() < -0.2 < 0.2 < part.spatial_map[:, :3].nanmean()
    assert part.value < whole.value
    assert abs(part.spatial_map.nanmean()) < 0.2 * part.spatial_map.abs().nanmean()


def test_places_say_how_the_score_moves_with_the_errors_there():
    """They are the derivative of the logarithm of the commanded path's share: of errors, place by place."""
    reward = CameraMoveLikelihoodReward()
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(2, 9, 4, 5, generator=generator, dtype=torch.float64) + 0.5

    def log_share(maps):
        return reward._log_shares(to_psnr(maps.mean((2, 3))))[:, 0]

    whole = errors.mean((2, 3))
    found = reward._contributions(_Errors(whole, errors), reward._log_shares(to_psnr(whole)).exp())
    for place in ((0, 0), (3, 2)):
        moved = errors.clone()
        moved[..., place[0], place[1]] *= 1 + 1e-4  # every path fits worse there, by the same share
        change = (log_share(moved) - log_share(errors)) / 1e-4 * 20 / 4
        assert torch.allclose(change, found[:, place[0], place[1]], atol=1e-3)


def test_places_of_a_wide_picture_keep_its_form_and_unseen_ones_say_nothing():
    frames = functional.interpolate(frames_of("push in"), (32, 64))
    score = PathRerenderReward().score(clip_of(frames, "Camera pan left. A room."), RewardInputs())
    assert score.spatial_map.shape == (8, 16)
    assert torch.isfinite(score.spatial_map).any()


def test_without_its_gain_stillness_pays_and_with_it_not():
    prompt = "Camera push in. A room."
    moving = frames_of("push in")
    still = moving[:1].expand_as(moving).clone()
    for power, least, most in ((0.0, 0.2, 0.4), (0.5, 0.0, 0.01), (1.0, 0.0, 0.01)):
        reward = PathRerenderReward(gain_power=power)
        assert least <= value(reward, still, prompt) <= most
        assert value(reward, moving, prompt) > 0.7


@pytest.mark.parametrize("share", [0.7, 0.85, 1.15])
def test_a_pan_counts_at_any_angle_for_and_against_a_command(share):
    """Else clips of a small turn would pass for orbits, which the metric `camera-accuracy` does not allow."""
    constants = replace(DEFAULT_CONSTANTS, pan=DEFAULT_CONSTANTS.pan * share)
    path = trajectory_from_moves([Move.PAN_RIGHT], 9, (64, 64), constants).scaled(1 / DEFAULT_CONSTANTS.scene_depth)
    clip = make_tiny_clip(
        parse_caption("Camera pan right. A red box and a blue ball in a green room with checker walls."), seed=0
    )
    frames = render_clip(replace(clip, path=path))
    earned = {}
    for move in SINGLE_MOVES:
        clip = clip_of(frames, f"Camera {move.phrase}.")
        score = CameraMoveLikelihoodReward().score(clip, RewardInputs())
        obeyed = CameraAccuracyReward().score(clip, RewardInputs()).value
        assert obeyed == (move == Move.PAN_RIGHT) == (score.details["margin"] > 0)
        earned[move] = score.value
    assert earned.pop(Move.PAN_RIGHT) > max(earned.values()) + 0.1


def test_two_moves_are_told_from_each_of_them():
    prompt = "Camera push in, then pan left."
    both = value(CameraMoveLikelihoodReward(), frames_of("push in, then pan left"), prompt)
    assert both > value(CameraMoveLikelihoodReward(), frames_of("push in"), prompt) + 0.1


@pytest.mark.parametrize("reward", REWARDS)
def test_batches_of_mixed_sizes_and_failures_score_as_alone(reward):
    wide = functional.interpolate(frames_of("move left"), (48, 96), mode="bilinear")
    clips = [
        clip_of(frames_of("move left"), "Camera move left."),
        clip_of(frames_of("move left"), "A room."),
        clip_of(wide, "Camera move left."),
        clip_of(torch.full((9, 3, 64, 64), 0.5), "Camera move left."),
        clip_of(frames_of("pan left"), "Camera pan left."),
    ]
    together = reward().score_batch(clips, [RewardInputs()] * 5)
    assert isinstance(together[1], ScoreNotApplicable)
    assert isinstance(together[3], ScoreUnavailable)
    for index in (0, 2, 4):
        assert isinstance(together[index], Score)
        assert together[index].value == pytest.approx(reward().score(clips[index], RewardInputs()).value, abs=1e-6)


def test_a_path_of_another_length_is_refused():
    shorter = trajectory_from_prompt("Camera move left.", 5)
    clip = replace(clip_of(frames_of("move left"), "Camera move left."), target=shorter)
    with pytest.raises(TrajectoryError, match="5 poses"):
        PathRerenderReward().score(clip, RewardInputs())


def test_equal_paths_in_other_units_have_one_key():
    path = trajectory_from_prompt("Camera orbit left.", 9)
    assert path is not None
    assert path_key(path) == path_key(path.scaled(0.001))
    assert path_key(path) != path_key(trajectory_from_prompt("Camera orbit right.", 9))


def test_the_floor_is_the_share_reached_and_no_more():
    frames = frames_of("move right")
    contrast = value(ContrastReward(), frames, "")
    assert value(StatisticsThresholdReward(contrast=2 * contrast), frames, "") == pytest.approx(0.5)
    assert value(StatisticsThresholdReward(contrast=contrast / 2), frames, "") == 1.0
    faded = 0.5 + 0.5 * (frames - 0.5)
    assert value(StatisticsThresholdReward(contrast=contrast, motion=1e-3), faded, "") == pytest.approx(0.75, abs=1e-3)


def test_no_floor_is_no_score_and_a_negative_one_an_error():
    with pytest.raises(ScoreUnavailable, match="every floor is 0"):
        value(StatisticsThresholdReward(), frames_of("move right"), "")
    with pytest.raises(UserError, match="motion"):
        StatisticsThresholdReward(motion=-1)
