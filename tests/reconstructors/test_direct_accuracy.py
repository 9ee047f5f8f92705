"""Cameras of the direct reconstructor against exact truth."""

from __future__ import annotations

import pytest
import torch

from reconstructors.camera_errors import path_error, rotation_errors
from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards.probes.world import FAMILIES, MOVES, WorldClip, render_world
from worldr1_rewards.reconstructors.direct import DirectReconstruction, DirectReconstructor

MOVING = [move for move in MOVES if not move.startswith(("pan", "fixed"))]


def reconstruct(world: WorldClip, known: bool = True) -> DirectReconstruction:
    intrinsics = world.intrinsics if known else None
    return DirectReconstructor().reconstruct(Clip(Video(world.frames), intrinsics=intrinsics))


def small(family: str, move: str, seed: int, **options) -> WorldClip:
    return render_world(family, move, seed=seed, size=(64, 64), num_frames=9, **options)


@pytest.mark.parametrize(
    ("family", "move", "seed"),
    [("rich", "orbit left", 3), ("tiles", "move right", 1), ("noise", "push in", 2), ("gloss", "pull out", 4)],
)
def test_a_moving_camera_is_found(family, move, seed):
    world = render_world(family, move, seed=seed)
    result = reconstruct(world)
    assert result.has_parallax
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 0.5
    assert path_error(result.trajectory.c2w, world.c2w) < 0.01


@pytest.mark.parametrize("move", ["pan left", "pan right"])
@pytest.mark.parametrize("family", ["rich", "soft"])
def test_a_pan_is_recognised(family, move):
    world = small(family, move, 5)
    result = reconstruct(world)
    assert not result.has_parallax
    assert result.trajectory.c2w[:, :3, 3].abs().max() == 0
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 0.2


@pytest.mark.parametrize("family", ["rich", "soft", "plain", "noise"])
def test_a_fixed_camera_is_recognised(family):
    result = reconstruct(small(family, "fixed", 6))
    assert not result.has_parallax
    assert torch.equal(result.trajectory.c2w, torch.eye(4, dtype=torch.float64).expand(9, 4, 4))


@pytest.mark.parametrize("corruption", ["frozen", "repeated", "frozen_noise"])
def test_a_repeated_frame_is_a_fixed_camera(corruption):
    result = reconstruct(small("rich", "push in", 7, corruption=corruption))
    assert result.diagnostics["motion"] == "resting"
    assert result.trajectory.c2w[:, :3, 3].abs().max() == 0


def test_the_default_guess_equals_the_known_focal_length_it_states():
    world = small("rich", "orbit right", 8)
    known, guessed = reconstruct(world), reconstruct(world, known=False)
    assert torch.equal(known.trajectory.c2w, guessed.trajectory.c2w)
    assert guessed.trajectory.intrinsics[0, 0] == pytest.approx(1.2 * 64)


def test_wide_frames_work():
    world = render_world("rich", "move left", seed=9, size=(60, 104), num_frames=9)
    result = reconstruct(world)
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 0.5
    assert path_error(result.trajectory.c2w, world.c2w) < 0.015


def test_translations_are_in_units_of_the_depth_seen_first():
    world = render_world("rich", "move left", seed=2)
    result = reconstruct(world)
    assert result.trajectory.scene_depth == 1.0
    assert float(result.depth[0].median()) == pytest.approx(1.0, rel=0.02)
    travelled = float(result.trajectory.c2w[-1, :3, 3].norm())
    expected = float(world.c2w[-1, :3, 3].norm()) / world.scene_depth
    assert travelled == pytest.approx(expected, rel=0.2)


def test_a_path_that_turns_a_corner_is_followed():
    world = render_world("rich", ("push in", "pan left"), seed=6, size=(96, 96), num_frames=17)
    result = reconstruct(world)
    assert result.has_parallax
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 1.0
    assert path_error(result.trajectory.c2w, world.c2w) < 0.02


@pytest.mark.slow
def test_half_the_speed_gives_half_the_path():
    full = reconstruct(render_world("rich", "move left", seed=2))
    half = reconstruct(render_world("rich", "move left", seed=2, amounts={"move": 0.1}))
    ratio = half.trajectory.c2w[-1, :3, 3].norm() / full.trajectory.c2w[-1, :3, 3].norm()
    assert float(ratio) == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_move(family, move):
    world = render_world(family, move, seed=100 + FAMILIES.index(family) * 11 + MOVES.index(move))
    result = reconstruct(world)
    assert result.has_parallax == (move in MOVING)
    assert rotation_errors(result.trajectory.c2w, world.c2w).mean() < 0.5
    if move in MOVING:
        assert path_error(result.trajectory.c2w, world.c2w) < 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu():
    world = small("rich", "orbit left", 3)
    clip = Clip(Video(world.frames), intrinsics=world.intrinsics)
    result = DirectReconstructor(device="cuda:0").reconstruct(clip)
    assert rotation_errors(result.trajectory.c2w, world.c2w).max() < 1.0
    assert result.rerender().frames.device.type == "cuda"
