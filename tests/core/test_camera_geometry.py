"""Rigid-body and pinhole maths, against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from worldr1_core.camera.geometry import (
    default_intrinsics,
    field_of_view,
    invert_pose,
    matrix_from_quaternion,
    nearest_rotation,
    pose,
    quaternion_from_matrix,
    rotation_angle,
    rotation_vector,
    rotation_y,
    scale_intrinsics,
    slerp,
)
from worldr1_core.errors import TrajectoryError

ROTATIONS = Rotation.random(200, random_state=0)


def matrices() -> torch.Tensor:
    return torch.from_numpy(ROTATIONS.as_matrix())


def test_quaternions_agree_with_scipy():
    expected = ROTATIONS.as_quat()
    expected *= np.where(expected[:, 3:] < 0, -1, 1)
    np.testing.assert_allclose(quaternion_from_matrix(matrices()), expected, atol=1e-12)


def test_matrices_from_quaternions_agree_with_scipy():
    quaternions = torch.from_numpy(ROTATIONS.as_quat() * 3.0)
    np.testing.assert_allclose(matrix_from_quaternion(quaternions), ROTATIONS.as_matrix(), atol=1e-12)


@pytest.mark.parametrize("axis", [*np.eye(3).tolist(), [1, 1, 0], [0, 1, -1], [1, -1, 1]])
def test_quaternions_of_half_turns_survive(axis):
    rotation = torch.from_numpy(Rotation.from_rotvec(np.pi * np.array(axis) / np.linalg.norm(axis)).as_matrix())
    np.testing.assert_allclose(matrix_from_quaternion(quaternion_from_matrix(rotation)), rotation, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-6, 0.3, math.pi / 2, 3.0, math.pi - 1e-7, math.pi])
def test_rotation_angle_is_accurate_from_zero_to_pi(angle):
    axis = np.array([1.0, 2.0, -2.0]) / 3
    matrix = torch.from_numpy(Rotation.from_rotvec(angle * axis).as_matrix())
    assert float(rotation_angle(matrix)) == pytest.approx(angle, abs=1e-15, rel=1e-6)


def test_slerp_agrees_with_scipy():
    pair = Rotation.random(2, random_state=3)
    times = np.linspace(0, 1, 11)
    start, end = torch.from_numpy(pair.as_quat()).unbind(0)
    mixed = slerp(start.expand(11, 4), end.expand(11, 4), torch.from_numpy(times))
    expected = Slerp([0, 1], pair)(times).as_matrix()
    np.testing.assert_allclose(matrix_from_quaternion(mixed), expected, atol=1e-12)


def test_slerp_between_nearly_equal_rotations_is_finite():
    start = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    end = torch.tensor([0.0, 1e-9, 0.0, 1.0], dtype=torch.float64)
    half = slerp(start, end, torch.tensor(0.5, dtype=torch.float64))
    assert float(half[1]) == pytest.approx(5e-10, rel=1e-6)


def test_positive_yaw_turns_the_view_to_the_right():
    forward = rotation_y(90.0) @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(forward, [1.0, 0.0, 0.0], atol=1e-15)


def test_inverse_pose_undoes_the_pose():
    c2w = pose(matrices(), torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    np.testing.assert_allclose(invert_pose(c2w) @ c2w, np.broadcast_to(np.eye(4), (200, 4, 4)), atol=1e-12)


def test_nearest_rotation_undoes_a_symmetric_stretch():
    stretch = torch.diag(torch.tensor([1.2, 0.9, 1.0], dtype=torch.float64))
    np.testing.assert_allclose(nearest_rotation(matrices() @ stretch), matrices(), atol=1e-12)


def test_nearest_rotation_never_returns_a_reflection():
    mirrored = torch.diag(torch.tensor([1.0, 1.0, -0.5], dtype=torch.float64))
    assert float(torch.linalg.det(nearest_rotation(mirrored))) == pytest.approx(1.0)


def test_default_intrinsics_have_the_documented_focal_length_and_centre():
    expected = [[499.2, 0.0, 208.0], [0.0, 499.2, 120.0], [0.0, 0.0, 1.0]]
    assert default_intrinsics(240, 416).tolist() == expected


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_default_intrinsics_refuse_an_empty_image(size):
    with pytest.raises(TrajectoryError, match="must be positive"):
        default_intrinsics(*size)


@given(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(1, 9)), st.integers(1, 2000), st.integers(1, 2000))
def test_scaled_intrinsics_project_to_scaled_pixels(point, height, width):
    intrinsics = torch.tensor([[300.0, 1.5, 150.0], [0.0, 310.0, 90.0], [0, 0, 1]], dtype=torch.float64)
    ray = torch.tensor(point, dtype=torch.float64)
    before = intrinsics @ ray
    after = scale_intrinsics(intrinsics, (180, 320), (height, width)) @ ray
    assert float(after[0] / after[2]) == pytest.approx(float(before[0] / before[2]) * width / 320)
    assert float(after[1] / after[2]) == pytest.approx(float(before[1] / before[2]) * height / 180)


def test_scaling_to_an_empty_image_is_refused():
    with pytest.raises(TrajectoryError, match="must be positive"):
        scale_intrinsics(torch.eye(3), (10, 10), (0, 10))


def test_field_of_view_of_the_default_camera():
    vertical, horizontal = field_of_view(default_intrinsics(416, 416), (416, 416))
    assert horizontal == vertical == pytest.approx(2 * math.degrees(math.atan(0.5 / 1.2)))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0, math.pi])
def test_a_rotation_vector_is_axis_times_angle(angle: float) -> None:
    vector = angle * np.array([2.0, -1.0, 2.0]) / 3
    matrix = torch.from_numpy(Rotation.from_rotvec(vector).as_matrix())
    found = rotation_vector(matrix).numpy()
    np.testing.assert_allclose(found if found @ vector >= 0 else -found, vector, atol=1e-12)
