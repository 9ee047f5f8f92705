"""Which frames predict a view, against displacements known in closed form."""

from __future__ import annotations

import pytest
import torch

from worldr1_rewards.reconstructors.view_synthesis import MIN_SHIFT, DepthFrames, displaced_frames, displacements

SIZE = 32, 48
FOCAL = 40.0


def sliding_cameras(*places: float) -> DepthFrames:
    """A wall at depth 2, seen by cameras that slide to the right."""
    poses = torch.eye(4).repeat(len(places), 1, 1)
    poses[:, 0, 3] = -torch.tensor(places)
    matrix = torch.tensor([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1]])
    return DepthFrames(torch.rand(len(places), 3, *SIZE), torch.full((len(places), *SIZE), 0.5), poses, matrix)


def test_a_wall_moves_by_focal_length_times_shift_over_depth() -> None:
    scene = sliding_cameras(0.0, 0.1, 0.4)
    expected = FOCAL * torch.tensor([0.0, 0.1, 0.4]) / 2 / SIZE[0]
    assert torch.allclose(displacements(scene, scene.poses[0]), expected, atol=1e-5)


def test_frames_that_show_almost_the_same_picture_do_not_predict_it() -> None:
    step = 0.45 * MIN_SHIFT * SIZE[0] * 2 / FOCAL
    scene = sliding_cameras(*(step * index for index in range(13)))
    assert displaced_frames(scene, scene.poses[6], place=6) == [0, 1, 2, 3, 9, 10, 11, 12]


def test_a_view_between_the_frames_keeps_none_that_is_too_near() -> None:
    step = 0.45 * MIN_SHIFT * SIZE[0] * 2 / FOCAL
    scene = sliding_cameras(*(step * index for index in range(13)))
    between = scene.poses[6].clone()
    between[0, 3] -= step / 2
    assert displaced_frames(scene, between, place=6.5) == [0, 1, 2, 3, 4, 9, 10, 11, 12]


def test_a_clip_that_hardly_moves_is_predicted_from_its_far_half() -> None:
    step = 0.05 * MIN_SHIFT * SIZE[0] * 2 / FOCAL
    scene = sliding_cameras(*(step * index for index in range(7)))
    assert displaced_frames(scene, scene.poses[3], place=3) == [0, 1, 5, 6]


def test_the_first_frames_are_predicted_from_the_nearest() -> None:
    step = 0.45 * MIN_SHIFT * SIZE[0] * 2 / FOCAL
    scene = sliding_cameras(*(step * index for index in range(13)))
    assert displaced_frames(scene, scene.poses[1], place=1) == [0, *range(2, 13)]


@pytest.mark.parametrize("own", [0, 2])
def test_a_resting_camera_keeps_all_other_frames(own: int) -> None:
    scene = sliding_cameras(0.0, 0.0, 0.0)
    assert displaced_frames(scene, scene.poses[own], own) == [index for index in range(3) if index != own]
