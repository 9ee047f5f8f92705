"""Multi-view stereo against the depth of rendered scenes, and its parts against closed forms."""

from __future__ import annotations

import pytest
import torch

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.semi_global import aggregate, interpolated_minimum
from worldr1_rewards.reconstructors.stereo import (
    StereoViews,
    mean_of_least,
    parabola_offset,
    plane_depths,
    stereo_depth,
    stereo_sizes,
)


@pytest.mark.parametrize("move", ["push in", "move right", "orbit left"])
def test_depth_of_a_rendered_scene(move):
    world = render_world("rich", move, seed=4, size=(128, 224), num_frames=7)
    ranges = torch.stack([0.5 / world.depth.flatten(1).amax(1), 2 / world.depth.flatten(1).amin(1)], 1)
    views = StereoViews(world.frames, invert_pose(world.c2w).float(), world.intrinsics.float(), ranges)
    inverse = stereo_depth(views)
    truth = torch.nn.functional.interpolate(1 / world.depth[:, None], inverse.shape[-2:], mode="area")[:, 0]
    error = ((inverse - truth).abs() / truth).flatten(1)
    assert float(error.median(1).values.max()) < 0.03
    assert float((error > 0.1).float().mean()) < 0.15


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
