"""Flow on the scene plane, against rays cast from one camera and projected into the other."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldr1_core.camera import CameraTrajectory, trajectory_from_prompt
from worldr1_core.camera.flow import pixel_grid, plane_flow, plane_homography
from worldr1_core.camera.geometry import pose, rotation_y
from worldr1_core.camera.vocabulary import Move
from worldr1_core.errors import TrajectoryError


def flow_by_projection(trajectory: CameraTrajectory, t: int, size: tuple[int, int]) -> np.ndarray:
    """Cast the ray of each pixel centre to depth d, move the point to the world, project it into the next camera."""
    height, width = size
    intrinsics, depth = trajectory.intrinsics.numpy(), trajectory.scene_depth
    result = np.empty((2, height, width))
    world_from_next = np.linalg.inv(trajectory.c2w[t + 1].numpy())
    for row in range(height):
        for column in range(width):
            u, v = column + 0.5, row + 0.5
            point = depth * np.array(
                [(u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1], 1]
            )
            world = trajectory.c2w[t].numpy() @ [*point, 1]
            seen = intrinsics @ (world_from_next @ world)[:3]
            result[:, row, column] = seen[:2] / seen[2] - [u, v]
    return result


@pytest.mark.parametrize("move", list(Move))
def test_flow_agrees_with_direct_projection(move):
    trajectory = trajectory_from_prompt(f"pan left, then {move.phrase}", 7, (6, 10))
    flow = plane_flow(trajectory, (6, 10))
    assert flow.shape == (6, 2, 6, 10)
    assert flow.dtype == torch.float32
    for t in range(6):
        np.testing.assert_allclose(flow[t], flow_by_projection(trajectory, t, (6, 10)), atol=1e-5)


def test_flow_of_an_arbitrary_motion():
    rotations = torch.from_numpy(
        Rotation.from_rotvec(np.random.default_rng(0).normal(scale=0.1, size=(3, 3))).as_matrix()
    )
    positions = torch.from_numpy(np.random.default_rng(1).normal(scale=0.2, size=(3, 3)))
    trajectory = CameraTrajectory(pose(rotations, positions), [[9, 0, 3.5], [0, 8, 3], [0, 0, 1]], (6, 8), 2.0)
    flow = plane_flow(trajectory, (6, 8))
    for t in range(2):
        np.testing.assert_allclose(flow[t], flow_by_projection(trajectory, t, (6, 8)), atol=1e-5)


def test_a_fixed_camera_has_no_flow():
    assert float(plane_flow(trajectory_from_prompt("fixed", 4), (6, 10)).abs().max()) < 1e-6


def test_moving_left_shifts_the_image_to_the_right_by_the_closed_form():
    flow = plane_flow(trajectory_from_prompt("move left", 2), (6, 10))
    np.testing.assert_allclose(flow[0, 0], 1.2 * 10 * 220 / 1000, atol=1e-5)
    np.testing.assert_allclose(flow[0, 1], 0, atol=1e-6)


def test_known_intrinsics_are_scaled_to_the_flow():
    coarse = plane_flow(trajectory_from_prompt("move left", 3, (60, 100)), (6, 10))
    assert torch.allclose(coarse, plane_flow(trajectory_from_prompt("move left", 3), (6, 10)))


def test_the_plane_behind_the_next_camera_gives_nan():
    trajectory = CameraTrajectory(
        pose(rotation_y(torch.tensor([0.0, 170.0])), torch.zeros(2, 3, dtype=torch.float64)), scene_depth=1.0
    )
    assert bool(plane_flow(trajectory, (6, 10)).isnan().all())


def test_homographies_there_and_back_cancel_for_a_rotation():
    there = plane_homography(
        torch.eye(4, dtype=torch.float64),
        pose(rotation_y(9.0), torch.zeros(3, dtype=torch.float64)),
        torch.diag(torch.tensor([5.0, 5.0, 1.0], dtype=torch.float64)),
        3.0,
    )
    back = plane_homography(
        pose(rotation_y(9.0), torch.zeros(3, dtype=torch.float64)),
        torch.eye(4, dtype=torch.float64),
        torch.diag(torch.tensor([5.0, 5.0, 1.0], dtype=torch.float64)),
        3.0,
    )
    np.testing.assert_allclose(back @ there, np.eye(3), atol=1e-12)


def test_pixel_centres_lie_at_one_half():
    grid = pixel_grid(2, 3)
    assert grid[:, 0, 0].tolist() == [0.5, 0.5]
    assert grid[:, 1, 2].tolist() == [2.5, 1.5]


def test_flow_needs_a_depth_and_a_size():
    with pytest.raises(TrajectoryError, match="scene_depth"):
        plane_flow(CameraTrajectory(torch.eye(4).expand(2, 4, 4)), (4, 4))
    with pytest.raises(TrajectoryError, match="set image_size"):
        plane_flow(CameraTrajectory(torch.eye(4).expand(2, 4, 4), torch.eye(3), scene_depth=1.0), (4, 4))
