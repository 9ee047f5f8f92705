"""The default reconstructor: which way a clip goes, how exact it is, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from reconstructors.camera_errors import path_error, rotation_errors
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.testing.reconstructors import reconstructor_checks
from worldr1_core.video import Video
from worldr1_rewards import metrics
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.auto import AutoReconstructor

WIDE = (180, 320)


def reconstruct(world, *, known=True):
    intrinsics = world.intrinsics if known else None
    return AutoReconstructor().reconstruct(Clip(Video(world.frames), intrinsics=intrinsics, name="a clip"))


@pytest.fixture(scope="module")
def push():
    world = render_world("rich", "push in", seed=2, size=WIDE, num_frames=9)
    return world, reconstruct(world)


def test_features_place_the_cameras_of_a_landscape_clip(push):
    world, result = push
    assert result.diagnostics["cameras_from"] == "features"
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 0.3
    assert path_error(result.trajectory.c2w, world.c2w) < 0.01


def test_every_frame_is_drawn_from_the_others(push):
    world, result = push
    render = result.rerender()
    assert float(metrics.psnr(render.frames, world.frames, render.coverage).min()) > 26
    assert float(render.coverage.mean()) > 0.9
    # Its own colours cannot have been used: painting a frame changes the others' views, not its own.
    painted = result.scene.frames.clone()
    result.scene.frames[4] = 0.0
    again = type(result)(**{name: getattr(result, name) for name in result.__dataclass_fields__}).rerender()
    result.scene.frames.copy_(painted)
    assert torch.equal(again.frames[4], render.frames[4])
    assert not torch.equal(again.frames[5], render.frames[5])


def test_depth_is_that_of_the_scene(push):
    world, result = push
    truth = world.depth / world.depth[0].median()
    error = ((result.depth - truth).abs() / truth).flatten(1).median(1).values
    assert float(error.max()) < 0.06


def test_an_unknown_focal_length_is_found_and_its_source_told():
    world = render_world("rich", ("push in", "pan left"), seed=5, size=WIDE, num_frames=9)
    result = reconstruct(world, known=False)
    ratio = float(result.trajectory.intrinsics[0, 0] / world.intrinsics[0, 0])
    assert result.diagnostics["focal_source"] == "estimated"
    assert abs(math.log(ratio)) < 0.15


def test_a_known_focal_length_is_kept(push):
    world, result = push
    assert torch.allclose(result.trajectory.intrinsics, world.intrinsics)
    assert result.diagnostics["focal_source"] == "given"


@pytest.mark.parametrize("move", ["pan left", "pan right"])
def test_a_pan_is_a_turn(move):
    world = render_world("rich", move, seed=3, size=WIDE, num_frames=9)
    result = reconstruct(world)
    assert not result.has_parallax
    assert result.diagnostics["motion"] == "turning"
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 0.3


def test_a_frozen_clip_rests():
    world = render_world("rich", "push in", seed=2, size=WIDE, num_frames=5, corruption="frozen")
    result = reconstruct(world)
    assert result.diagnostics["motion"] == "resting"
    assert torch.allclose(result.trajectory.c2w, torch.eye(4, dtype=torch.float64).expand(5, 4, 4))


def test_small_clips_are_searched_and_the_reason_is_told():
    world = render_world("rich", "move left", seed=1, size=(64, 64), num_frames=9)
    result = reconstruct(world)
    assert result.diagnostics["cameras_from"] == "search"
    assert "small" in result.diagnostics["features"]
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 0.5


def test_noise_is_refused_with_the_reason():
    frames = torch.rand(5, 3, *WIDE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ScoreUnavailable, match="do not show the same scene"):
        AutoReconstructor().reconstruct(Clip(Video(frames), name="noise"))


def test_plain_frames_are_refused():
    with pytest.raises(ScoreUnavailable, match="no texture"):
        AutoReconstructor().reconstruct(Clip(Video(torch.full((5, 3, *WIDE), 0.5))))


def test_the_same_clip_gives_the_same_answer():
    world = render_world("tiles", "orbit left", seed=1, size=WIDE, num_frames=5)
    first, second = reconstruct(world), reconstruct(world)
    assert torch.equal(first.trajectory.c2w, second.trajectory.c2w)
    assert torch.equal(first.rerender().frames, second.rerender().frames)


@pytest.mark.slow
@pytest.mark.parametrize("check", reconstructor_checks(AutoReconstructor, size=(120, 160), min_psnr=20.0), ids=str)
def test_contract(check):
    check()
