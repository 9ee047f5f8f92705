"""Multi-view stereo against the depth of rendered scenes, and its parts against closed forms."""

from __future__ import annotations

import pytest
import torch

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.semi_global import aggregate, interpolated_minimum
from worldr1_rewards.reconstructors.stereo import (
    OFFSETS,
    StereoViews,
    choose_sources,
    mean_of_least,
    parabola_offset,
    parallax,
    plane_depths,
    stereo_depth,
    stereo_sizes,
)


def make_views(world, order):
    """Views of a rendered world: its frames in an order that may repeat some, as where the camera rests."""
    depth = world.depth[order]
    ranges = torch.stack([0.5 / depth.flatten(1).amax(1), 2 / depth.flatten(1).amin(1)], 1)
    return StereoViews(world.frames[order], invert_pose(world.c2w[order]).float(), world.intrinsics.float(), ranges)


def relative_errors(world, order):
    """Relative errors of the estimated inverse depth of every frame, `(T, pixels)`."""
    inverse = stereo_depth(make_views(world, order))
    truth = torch.nn.functional.interpolate(1 / world.depth[order][:, None], inverse.shape[-2:], mode="area")[:, 0]
    return ((inverse - truth).abs() / truth).flatten(1)


@pytest.mark.parametrize(
    "order", [range(7), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6, 6]], ids=["moves", "rests at the ends"]
)
@pytest.mark.parametrize("move", ["push in", "move right", "orbit left"])
def test_depth_of_a_rendered_scene(move, order):
    world = render_world("rich", move, seed=4, size=(128, 224), num_frames=7)
    error = relative_errors(world, list(order))
    assert float(error.median(1).values.max()) < 0.03
    assert float((error > 0.1).float().mean()) < 0.15


def still_then_moving():
    """Ten cameras that move sideways by 0.1 per frame from frame 4 on, before surfaces at depths 1 to 4."""
    poses = torch.eye(4).repeat(10, 1, 1)
    poses[:, 0, 3] = -0.1 * (torch.arange(10) - 4).clamp(min=0)
    intrinsics = torch.tensor([[100.0, 0.0, 80.0], [0.0, 100.0, 48.0], [0.0, 0.0, 1.0]])
    return StereoViews(torch.zeros(10, 3, 96, 160), poses, intrinsics, torch.tensor([[0.25, 1.0]]).repeat(10, 1))


def test_parallax_is_the_shift_between_near_and_far():
    """100 pixels of focal length, a shift of 0.1 per frame, inverse depths 0.25 and 1: 7.5 of 96 pixels."""
    found = parallax(still_then_moving(), 4)
    expected = 7.5 / 96 * torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "sources"), [(0, [5, 6]), (3, [5, 6]), (4, [5, 7]), (5, [2, 4, 6, 8]), (8, [5, 7, 9]), (9, [6, 8])]
)
def test_frames_without_parallax_are_passed_over(frame, sources):
    assert choose_sources(still_then_moving(), frame, OFFSETS[0]) == sources


def test_a_camera_that_only_rests_keeps_its_neighbours():
    views = still_then_moving()
    still = StereoViews(views.frames, torch.eye(4).repeat(10, 1, 1), views.intrinsics, views.ranges)
    assert choose_sources(still, 5, OFFSETS[0]) == [2, 4, 6, 8]
    assert choose_sources(still, 0, OFFSETS[0]) == [1, 3]


def test_planes_span_the_range_and_are_even_in_the_root():
    planes = plane_depths(torch.tensor([[0.04, 4.0]]), 5)[0]
    assert torch.allclose(planes[[0, -1]], torch.tensor([0.04, 4.0]))
    steps = planes.sqrt().diff()
    assert torch.allclose(steps, steps[:1].expand_as(steps))


def test_the_better_half_is_averaged():
    values = [torch.tensor([3.0, 1.0]), torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0]), torch.tensor([9.0, 0.0])]
    assert torch.equal(mean_of_least(values, 2), torch.tensor([1.5, 0.5]))


def test_a_parabola_is_met_exactly():
    place = 0.3
    costs = [torch.tensor([2.0 * (step - place) ** 2 + 1]) for step in (-1, 0, 1)]
    assert torch.allclose(parabola_offset(*costs), torch.tensor([place]), atol=1e-5)
    assert float(parabola_offset(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([3.0]))) == -1


def test_semi_global_matching_carries_depth_over_a_plain_wall():
    truth = 3
    costs = torch.zeros(1, 6, 9, 9)
    costs[:, :, 4, 4] = 1.0  # the only textured pixel
    costs[:, truth, 4, 4] = 0.0
    planes = torch.arange(6.0)[None]
    found = interpolated_minimum(aggregate(costs, torch.zeros(1, 9, 9)), planes)
    assert torch.allclose(found[0, 4], torch.full((9,), float(truth)), atol=0.51)
    assert torch.allclose(found[0, :, 4], torch.full((9,), float(truth)), atol=0.51)


def test_depth_may_jump_at_an_edge_of_the_image():
    costs = torch.full((1, 8, 4, 10), 0.1)
    costs[:, 1, :, :5], costs[:, 6, :, 5:] = 0.0, 0.0
    edge = torch.zeros(1, 4, 10)
    edge[..., 5:] = 1.0
    found = interpolated_minimum(aggregate(costs, edge), torch.arange(8.0)[None])
    assert torch.allclose(found[0, :, 4], torch.full((4,), 1.0), atol=0.5)
    assert torch.allclose(found[0, :, 5], torch.full((4,), 6.0), atol=0.5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), [(64, 64)]), ((256, 456), [(64, 114), (128, 228)]), ((480, 832), [(64, 111), (128, 222)])],
)
def test_sizes_from_coarse_to_fine(size, expected):
    assert stereo_sizes(size) == expected
