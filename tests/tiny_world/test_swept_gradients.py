"""`score_frames` of the rewards that sweep: the value of `score`, and a gradient with the chosen planes held fixed."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch

from worldr1_backbones.tiny.captions import parse_caption
from worldr1_backbones.tiny.data import clip_of as make_tiny_clip
from worldr1_backbones.tiny.data import render_clip
from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.errors import TrajectoryError, UserError
from worldr1_core.reward import RewardInputs
from worldr1_core.testing import reward_checks
from worldr1_core.testing.report import CheckFailed
from worldr1_core.video import Video
from worldr1_rewards.rewards import sweep_grids, swept_rewards
from worldr1_rewards.rewards.plane_sweep import (
    box_mean,
    fast_box_mean,
    normalise_local_contrast,
    sweep_error,
    sweep_error_maps,
)
from worldr1_rewards.rewards.sweep_gradient import bounded_power, choose_best_warps, choose_warps, warped_errors
from worldr1_rewards.rewards.swept_rewards import CameraMoveLikelihoodReward, PathRerenderReward

REWARDS = (PathRerenderReward, CameraMoveLikelihoodReward)
MOVES = ("push in", "pan left", "fixed", "orbit right", "push in, then pan left", "push in")


@lru_cache(maxsize=8)
def frames_of(moves: str, seed: int = 0) -> torch.Tensor:
    """A grainy clip of the tiny world whose camera goes as commanded."""
    caption = parse_caption(f"Camera {moves}. A red box and a blue ball in a green room with checker walls.")
    grain = torch.randn(9, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    return (render_clip(make_tiny_clip(caption, seed)) + 0.04 * grain).clamp(0, 1)


def clip_of(frames: torch.Tensor, prompt: str) -> Clip:
    return Clip(Video(frames), prompt, trajectory_from_prompt(prompt, len(frames)))


def graded(reward, clips: list[Clip]) -> tuple[torch.Tensor, torch.Tensor]:
    """Values `(B,)`, and the gradient of the sum of those that are numbers."""
    frames = torch.stack([clip.video.frames for clip in clips]).requires_grad_()
    values = reward.score_frames(frames, clips, [RewardInputs()] * len(clips))
    [gradient] = torch.autograd.grad(values.nansum(), frames)
    return values.detach(), gradient


@pytest.mark.parametrize("options", [{}, {"gain_power": 0.0}, {"side": 32}, {"contrast": "along-path"}])
def test_values_of_path_rerender_are_those_of_score(options):
    reward = PathRerenderReward(**options)
    clips = [clip_of(frames_of(move), f"Camera {move}.") for move in MOVES]
    expected = [reward.score(clip, RewardInputs()).value for clip in clips]
    assert graded(reward, clips)[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("contrast", ["any-direction", "along-path"])
def test_values_of_camera_move_likelihood_are_those_of_score(contrast):
    """Moves that are obeyed and not, a composite that is none of the nine, and pans at the best of several angles."""
    reward = CameraMoveLikelihoodReward(temperature=5.0, contrast=contrast)
    clips = [clip_of(frames_of(move), f"Camera {other}.") for move in MOVES[:3] for other in ("push in", "pan right")]
    clips += [clip_of(frames_of(MOVES[4]), f"Camera {MOVES[4]}."), clip_of(frames_of(MOVES[3]), f"Camera {MOVES[3]}.")]
    expected = [reward.score(clip, RewardInputs()).value for clip in clips]
    assert graded(reward, clips)[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert len({round(value, 3) for value in expected}) > 5


@pytest.mark.parametrize("reward", REWARDS)
def test_clips_without_a_score_are_nan_and_leave_the_others_alone(reward):
    moving = clip_of(frames_of("push in"), "Camera push in.")
    grey = clip_of(torch.full((9, 3, 64, 64), 0.5), "Camera push in.")
    values, gradient = graded(reward(), [clip_of(frames_of("push in"), "A room."), moving, grey])
    assert values.isnan().tolist() == [True, False, True]
    assert gradient[0].abs().max() == 0 == gradient[2].abs().max()
    torch.testing.assert_close(gradient[1:2], graded(reward(), [moving])[1])
    assert torch.isfinite(gradient).all()
    assert gradient[1].abs().max() > 0


def test_a_path_of_another_length_is_refused():
    clip = Clip(Video(frames_of("push in")), "Camera push in.", trajectory_from_prompt("Camera push in.", 5))
    with pytest.raises(TrajectoryError, match="5 poses"):
        graded(PathRerenderReward(), [clip])


@pytest.mark.parametrize("move", ["push in", "orbit right", "pan left"])
def test_warping_the_chosen_planes_has_the_gradient_of_warping_all(move):
    """`sweep_error_maps` with autograd on warps every plane, and picks from them."""
    path = trajectory_from_prompt(f"Camera {move}.", 9)
    images = normalise_local_contrast(frames_of(move)[None])[..., 16:48].requires_grad_()
    total, count = sweep_error_maps.__wrapped__(images, path)
    [expected] = torch.autograd.grad(total.sum() / count.sum(), images)
    error = warped_errors(images, choose_warps(images, [path]))[0, 0]
    [gradient] = torch.autograd.grad(error, images)
    torch.testing.assert_close(error, sweep_error(images, path)[0])
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_the_best_path_of_each_clip_is_chosen():
    images = torch.stack([frames_of("pan left"), frames_of("fixed")])
    paths = [trajectory_from_prompt(f"Camera {move}.", 9) for move in ("fixed", "pan left")]
    errors = torch.stack([sweep_error(images, path) for path in paths])
    assert errors.argmin(0).tolist() == [1, 0]
    torch.testing.assert_close(warped_errors(images, choose_best_warps(images, paths))[:, 0], errors.amin(0))


def test_a_step_along_the_gradient_earns_more():
    for reward in (PathRerenderReward(), CameraMoveLikelihoodReward(lowest_log=-20)):
        prompt, frames = "Camera move left.", frames_of("push in")
        values, gradient = graded(reward, [clip_of(frames, prompt)])
        better = (frames + 0.02 * gradient[0] / gradient.abs().max()).clamp(0, 1)
        assert reward.score(clip_of(better, prompt), RewardInputs()).value > float(values) + 1e-3


def test_the_lowest_log_decides_which_clips_keep_a_gradient():
    clip = clip_of(frames_of("push in"), "Camera pull out.")
    lost, gradient = graded(CameraMoveLikelihoodReward(), [clip])
    assert float(lost) == 0 == gradient.abs().max()
    kept, gradient = graded(CameraMoveLikelihoodReward(lowest_log=-50), [clip])
    log_share = CameraMoveLikelihoodReward().score(clip, RewardInputs()).details["log_share"]
    assert float(kept) == pytest.approx(1 + log_share / 50, abs=1e-6)
    assert gradient.abs().max() > 0
    for wrong in (0.0, -51.0):
        with pytest.raises(UserError, match="lowest_log"):
            CameraMoveLikelihoodReward(lowest_log=wrong)


def test_without_a_gain_no_resting_camera_is_swept(monkeypatch):
    def refuse(path):
        raise AssertionError("the gain was computed")

    monkeypatch.setattr(swept_rewards, "_tried_beside", refuse)
    clip = clip_of(frames_of("push in"), "Camera push in.")
    assert math.isfinite(float(graded(PathRerenderReward(gain_power=0), [clip])[0]))
    with pytest.raises(AssertionError):
        graded(PathRerenderReward(), [clip])


def test_the_root_of_the_gain_has_a_bounded_slope():
    share = torch.tensor([-0.5, 1e-6, 0.01, 0.25], requires_grad=True)
    value = bounded_power(share, 0.5)
    torch.testing.assert_close(value.detach(), share.detach().clamp(min=0).sqrt())
    [slope] = torch.autograd.grad(value.sum(), share)
    torch.testing.assert_close(slope, torch.tensor([0.0, 5.0, 5.0, 1.0]))


@pytest.mark.parametrize(("side", "mode"), [(5, "replicate"), (9, "reflect")])
def test_the_fast_box_mean_is_the_box_mean(side, mode):
    images = torch.rand(2, 3, 12, 17, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fast_box_mean(images, side, mode), box_mean(images, side, mode))


def test_grids_are_kept_by_path_and_size_up_to_a_limit(monkeypatch):
    path = trajectory_from_prompt("Camera push in.", 9)
    other = trajectory_from_prompt("Camera pull out.", 9)
    monkeypatch.setattr(sweep_grids, "_kept", type(sweep_grids._kept)())
    first = sweep_grids.sweep_grid(path, (16, 16))
    assert sweep_grids.sweep_grid(path, (16, 16))[0] is first[0]
    assert sweep_grids.sweep_grid(path, (16, 24))[0].shape == (8, 16, 16, 24, 2)
    assert not torch.equal(sweep_grids.sweep_grid(other, (16, 16))[0], first[0])
    monkeypatch.setattr(sweep_grids, "CACHE_BYTES", 1)
    sweep_grids.sweep_grid(path, (24, 16))
    assert len(sweep_grids._kept) == 1


def test_the_kit_finds_a_gain_without_a_gradient(monkeypatch):
    check = {check.name: check for check in reward_checks(PathRerenderReward)}["gradient-differences"]
    check()
    monkeypatch.setattr(swept_rewards, "bounded_power", lambda share, power: share.detach().clamp(min=0) ** power)
    with pytest.raises(CheckFailed, match="finite differences give"):
        check()
