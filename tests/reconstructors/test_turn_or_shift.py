"""Cameras that turn only while they do not travel, against paths built for it."""

from __future__ import annotations

import math

import pytest
import torch

from reconstructors.camera_errors import rotation_errors
from worldr1_core.camera.geometry import invert_pose
from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.auto import AutoReconstructor
from worldr1_rewards.reconstructors.rigid import rotation_exp
from worldr1_rewards.reconstructors.turn_or_shift import turning_at_rest, turning_less

DEPTH = 3.0


def yawed(degrees: list[float], centres: list[float]) -> torch.Tensor:
    """World-to-camera poses with these yaws, and centres along z."""
    twist = torch.zeros(len(degrees), 3, dtype=torch.float64)
    twist[:, 1] = torch.tensor([math.radians(value) for value in degrees], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(len(degrees), 1, 1)
    poses[:, :3, :3] = rotation_exp(twist)
    poses[:, 2, 3] = -torch.tensor(centres, dtype=torch.float64)
    poses[:, :3, 3] = (poses[:, :3, :3] @ poses[:, :3, 3:])[..., 0]
    return poses


def test_turns_during_travel_go_and_turns_at_rest_stay() -> None:
    found = turning_at_rest(yawed([0, 1, 2, 4, 6], [0.0, 0.5, 1.0, 1.0, 1.0]), DEPTH)
    assert found is not None
    expected = yawed([0, 0, 0, 2, 4], [0.0] * 5)[:, :3, :3]
    assert torch.allclose(found[:, :3, :3], expected, atol=1e-9)


def test_what_lies_at_the_typical_depth_keeps_its_place() -> None:
    poses = yawed([0, 1, 2, 4, 6], [0.0, 0.1, 0.2, 0.2, 0.2])
    found = turning_at_rest(poses, DEPTH)
    assert found is not None
    point = torch.tensor([0.0, 0.0, DEPTH], dtype=torch.float64)
    before, after = (p[:, :3, :3] @ point + p[:, :3, 3] for p in (poses, found))
    places = [(q[:, :2] / q[:, 2:]) for q in (before, after)]
    assert float((places[0] - places[1]).abs().max()) < 0.01


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_the_turn_stays_and_the_rest_moves_the_picture_alike(share: float) -> None:
    poses = yawed([0, 1, 2, 3], [0.0, 0.0, 0.0, 0.0])
    found = turning_less(poses, share, DEPTH)
    assert torch.allclose(found[:, :3, :3], yawed([0, share, 2 * share, 3 * share], [0.0] * 4)[:, :3, :3], atol=1e-9)
    point = torch.tensor([0.0, 0.0, DEPTH], dtype=torch.float64)
    before, after = (p[:, :3, :3] @ point + p[:, :3, 3] for p in (poses, found))
    assert torch.allclose(before[:, :2] / before[:, 2:], after[:, :2] / after[:, 2:], atol=2e-3)


@pytest.mark.parametrize("centres", [[0.0, 0.5, 1.0, 1.5], [0.0, 0.0, 0.0, 0.0]])
def test_paths_of_one_kind_have_no_such_rival(centres: list[float]) -> None:
    assert turning_at_rest(yawed([0, 1, 2, 3], centres), DEPTH) is None


@pytest.mark.slow
@pytest.mark.parametrize(("family", "seed", "pan"), [("noise", 5, "pan left"), ("mixed", 6, "pan right")])
def test_a_push_that_ends_in_a_pan_is_found(family: str, seed: int, pan: str) -> None:
    world = render_world(family, ("push in", pan), seed=seed, size=(180, 320), num_frames=17)
    found = AutoReconstructor().reconstruct(Clip(Video(world.frames), intrinsics=world.intrinsics))
    assert float(rotation_errors(found.trajectory.c2w, world.c2w).mean()) < 1.5
    assert float(invert_pose(found.trajectory.c2w)[-1, :3, 3].norm()) > 0.1
