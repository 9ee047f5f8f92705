"""Symmetric neighbour reprojection: closed forms, then rendered worlds with exact cameras and depth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from worldr1_core.camera import CameraTrajectory, default_intrinsics
from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import RewardInputs, Score
from worldr1_core.testing import reward_checks
from worldr1_core.video import Video
from worldr1_rewards.probes.plan import to_clip
from worldr1_rewards.probes.world import WorldClip, render_world
from worldr1_rewards.rewards.consistency import ConsistencyReward
from worldr1_rewards.rewards.neighbour_reprojection import reproject_neighbours
from worlds.truth import true_reconstruction


@pytest.mark.parametrize("check", reward_checks(ConsistencyReward), ids=str)
def test_contract(check) -> None:
    check()


def sliding_plane(depth: float = 2.0, pixels: int = 2, num_frames: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames of a smooth fronto-parallel picture that slides by whole pixels, with depth, poses and intrinsics."""
    wide = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.interpolate(wide, size=(48, 80), mode="bicubic", align_corners=False).clamp(0, 1)[0]
    frames = torch.stack([wide[:, :, t * pixels : t * pixels + 64] for t in range(num_frames)])
    intrinsics = default_intrinsics(48, 64)
    c2w = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    c2w[:, 0, 3] = torch.arange(num_frames) * pixels * depth / intrinsics[0, 0]
    return frames, torch.full((num_frames, 48, 64), depth), c2w, intrinsics


def test_a_plane_that_slides_as_its_camera_does_is_explained_and_its_shift_is_known() -> None:
    frames, depth, c2w, intrinsics = sliding_plane()
    found = reproject_neighbours(frames, depth, c2w, intrinsics, stride=1)
    assert float(found.unexplained.max()) < 1e-3  # the blur reaches over the border
    assert found.shift == pytest.approx(2 / 64, rel=1e-4)
    # Two pixels leave the picture, and one more at the border is not looked up.
    assert float(found.overlap.min()) == pytest.approx((64 - 2 - 1) / 64 * (48 - 2) / 48, abs=0.02)


def test_a_wrong_pose_leaves_the_slide_unexplained() -> None:
    frames, depth, c2w, intrinsics = sliding_plane()
    still = torch.eye(4, dtype=torch.float64).expand_as(c2w)
    opposite = c2w.clone()
    opposite[:, 0, 3] *= -1
    right, none, wrong = (
        float(reproject_neighbours(frames, depth, path, intrinsics, stride=1).unexplained.mean())
        for path in (c2w, still, opposite)
    )
    assert right < 1e-3 < 0.02 < none < wrong


def test_a_surface_hidden_in_the_neighbour_does_not_count() -> None:
    frames, depth, c2w, intrinsics = sliding_plane()
    nearer = depth.clone()
    nearer[1, :, 20:40] = 1.0
    frames[1, :, :, 20:40] = torch.rand(3, 48, 20, generator=torch.Generator().manual_seed(2))
    found = reproject_neighbours(frames, nearer, c2w, intrinsics, stride=1)
    clean = reproject_neighbours(frames, depth, c2w, intrinsics, stride=1)
    assert found.overlap[0] < clean.overlap[0] - 0.1
    assert found.unexplained[0] < clean.unexplained[0]


def test_neighbours_without_overlap_are_no_pair() -> None:
    frames, depth, c2w, intrinsics = sliding_plane()
    c2w[:, 0, 3] *= 40
    assert bool(reproject_neighbours(frames, depth, c2w, intrinsics, stride=1).unexplained.isnan().all())


def world(moves: str, corruption: str = "clean", *, family: str = "soft", size: int = 64, frames: int = 9) -> WorldClip:
    return render_world(family, moves, seed=4, size=(size, size), num_frames=frames, corruption=corruption, samples=3)


def score(clip: WorldClip, *, gate: str = "none", target: bool = True, seen: WorldClip | None = None) -> Score:
    """Score with exact cameras and depth: those of `seen`, where the estimate follows another clip."""
    given = to_clip(clip, "clip")
    scene = true_reconstruction(clip if seen is None else seen)
    reward = ConsistencyReward(gate=gate)
    return reward.score(given if target else replace(given, target=None), RewardInputs(scene))


@pytest.mark.parametrize("moves", ["push in", "orbit left", "move right", "pan left"])
def test_honest_clips_earn_most_and_broken_ones_clearly_less(moves: str) -> None:
    clean = world(moves)
    honest = score(clean).value
    assert honest > 0.6
    for corruption in ("morph", "bend", "vanish", "flicker", "swim"):
        assert score(world(moves, corruption), seen=clean).value < 0.75 * honest, corruption


def test_one_bad_moment_is_not_averaged_away() -> None:
    clean = world("move right", frames=17)
    flash = replace(clean, frames=clean.frames.clone())
    flash.frames[8] = flash.frames[8].flip(-1)
    assert score(flash, seen=clean).value < 0.3 * score(clean).value


def test_the_resolution_hardly_matters() -> None:
    assert score(world("orbit left", size=128)).value == pytest.approx(score(world("orbit left")).value, abs=0.1)


@pytest.mark.parametrize("moves", ["push in", "pan left"])
def test_cameras_at_rest_earn_nothing_where_a_move_is_commanded(moves: str) -> None:
    result = score(world(moves, "frozen"))
    assert result.value == 0.0
    assert "cameras rest" in result.details["earned"]


def test_cameras_at_rest_cannot_tell_where_none_is() -> None:
    with pytest.raises(ScoreNotApplicable, match="no second view"):
        score(world("fixed"))
    with pytest.raises(ScoreNotApplicable, match="no second view"):
        score(world("push in", "frozen"), target=False)


def test_a_pan_is_compared_by_its_rotation_whatever_the_depth() -> None:
    clean = world("pan left")
    scene = true_reconstruction(clean)
    clip = to_clip(clean, "clip")
    assert scene.depth is not None
    reward = ConsistencyReward(gate="none")
    values = {
        reward.score(clip, RewardInputs(replace(scene, depth=depth))).value
        for depth in (scene.depth, 3 * scene.depth, torch.rand_like(scene.depth), None)
    }
    assert len(values) == 1
    assert values.pop() > 0.6


def test_without_texture_there_is_no_score() -> None:
    clean = world("push in")
    grey = replace(clean, frames=torch.full_like(clean.frames, 0.5))
    with pytest.raises(ScoreUnavailable, match="no texture"):
        score(grey, seen=clean)


def test_travel_without_depth_gives_the_reason() -> None:
    clean = world("push in")
    with pytest.raises(ScoreUnavailable, match="no depth"):
        ConsistencyReward().score(to_clip(clean, "c"), RewardInputs(replace(true_reconstruction(clean), depth=None)))


def test_one_frame_has_no_neighbour() -> None:
    path = CameraTrajectory(torch.eye(4)[None], default_intrinsics(64, 64), (64, 64))
    scene = replace(true_reconstruction(world("push in")), trajectory=path)
    with pytest.raises(ScoreUnavailable, match="2 frames"):
        ConsistencyReward().score(Clip(Video(torch.rand(1, 3, 64, 64))), RewardInputs(scene))


def test_the_gate_takes_the_pay_from_a_camera_that_goes_elsewhere() -> None:
    wrong = world("move right", "wrong_direction")
    assert score(wrong).value > 0.5
    assert score(wrong, gate="trajectory").value < 0.05
    clean = world("move right")
    assert score(clean, gate="trajectory").value > 0.9 * score(clean).value


def test_without_a_reconstruction_it_says_so() -> None:
    with pytest.raises(PluginError, match="needs a reconstruction"):
        ConsistencyReward().score(to_clip(world("push in"), "c"), RewardInputs())
