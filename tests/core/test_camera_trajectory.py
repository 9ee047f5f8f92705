"""`CameraTrajectory`: what it accepts, what it refuses, and what it derives."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldr1_core.camera.geometry import pose, rotation_y
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, UserError


def wander(num_frames: int = 7, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(num_frames, random_state=seed).as_matrix()
    return pose(torch.from_numpy(rotations), torch.from_numpy(rng.normal(size=(num_frames, 3))))


def test_arrays_and_float32_become_detached_float64_tensors():
    source = wander().to(torch.float32).requires_grad_()
    c2w = CameraTrajectory(source).c2w
    assert (c2w.dtype, c2w.requires_grad, c2w.device.type) == (torch.float64, False, "cpu")
    assert CameraTrajectory(wander().numpy().astype(np.float32)).num_frames == 7
    assert CameraTrajectory(wander().tolist()).num_frames == 7


def test_the_callers_tensor_is_neither_shared_nor_changed():
    source = wander()
    kept = source.clone()
    CameraTrajectory(source).c2w[0, 0, 3] = 99.0
    assert torch.equal(source, kept)


def test_exact_rotations_are_kept_bit_for_bit():
    source = pose(rotation_y(torch.linspace(0, 40, 5)), torch.zeros(5, 3, dtype=torch.float64))
    assert torch.equal(CameraTrajectory(source).c2w, source)


def test_rounded_rotations_are_made_orthonormal():
    rounded = wander().mul(1e4).round().div(1e4)
    rotations = CameraTrajectory(rounded).rotations
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations.transpose(1, 2) @ rotations, identity, atol=1e-14)
    np.testing.assert_allclose(rotations, rounded[:, :3, :3], atol=1e-3)


@pytest.mark.parametrize(
    ("c2w", "message"),
    [
        (torch.eye(4), r"must be \(T, 4, 4\)"),
        (torch.zeros(0, 4, 4), r"received shape \(0, 4, 4\)"),
        (torch.eye(3).expand(2, 3, 3), r"received shape \(2, 3, 3\)"),
        ([[[1.0, 2.0], [3.0]]], "full array of numbers"),
        ("identity", "full array of numbers"),
        (None, "received shape"),
    ],
)
def test_poses_of_another_form_are_refused(c2w, message):
    with pytest.raises(TrajectoryError, match=message):
        CameraTrajectory(c2w)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_poses_name_the_frame(value):
    c2w = wander()
    c2w[3, 1, 3] = value
    with pytest.raises(TrajectoryError, match="frame 3 holds NaN or infinite"):
        CameraTrajectory(c2w)


def test_scaled_rotation_is_refused_with_the_frame():
    c2w = wander()
    c2w[2, :3, :3] *= 1.01
    with pytest.raises(TrajectoryError, match="frame 2 is not rigid"):
        CameraTrajectory(c2w)


def test_reflection_is_refused():
    c2w = wander()
    c2w[1, :3, 0] *= -1
    with pytest.raises(TrajectoryError, match="frame 1 is a reflection"):
        CameraTrajectory(c2w)


def test_transposed_matrices_get_a_hint():
    with pytest.raises(TrajectoryError, match="transpose the matrices"):
        CameraTrajectory(wander().transpose(1, 2))


@pytest.mark.parametrize(
    ("intrinsics", "message"),
    [
        (torch.eye(4), "must be 3x3"),
        ([[100, 0, 50], [0, math.nan, 50], [0, 0, 1]], "must be finite"),
        ([[100, 0, 50], [0, 100, 50], [0, 0, 2]], "must have the form"),
        ([[100, 0, 50], [3, 100, 50], [0, 0, 1]], "must have the form"),
        ([[-100, 0, 50], [0, 100, 50], [0, 0, 1]], "positive focal"),
        ([[100, 0, 50], [0, 0, 50], [0, 0, 1]], "positive focal"),
    ],
)
def test_intrinsics_that_are_no_pinhole_are_refused(intrinsics, message):
    with pytest.raises(TrajectoryError, match=message):
        CameraTrajectory(wander(), intrinsics)


@pytest.mark.parametrize("size", [(0, 4), (4.5, 4), (4,), "4x4", (True, 4), (math.nan, 4)])
def test_image_sizes_that_are_no_sizes_are_refused(size):
    with pytest.raises(TrajectoryError, match="two positive integers"):
        CameraTrajectory(wander(), image_size=size)


@pytest.mark.parametrize("depth", [0.0, -1.0, math.nan, math.inf, "far", True])
def test_scene_depths_that_are_no_depths_are_refused(depth):
    with pytest.raises(TrajectoryError, match="scene_depth must be a positive number"):
        CameraTrajectory(wander(), scene_depth=depth)


def test_the_error_is_a_users_mistake():
    assert issubclass(TrajectoryError, UserError)
    assert TrajectoryError.exit_code == 2


def test_relative_starts_at_exactly_the_identity():
    assert torch.equal(CameraTrajectory(wander()).relative().c2w[0], torch.eye(4, dtype=torch.float64))


def test_relative_keeps_the_motion_between_frames():
    trajectory = CameraTrajectory(wander())
    relative = trajectory.relative()
    before = torch.linalg.inv(trajectory.c2w[:-1]) @ trajectory.c2w[1:]
    after = torch.linalg.inv(relative.c2w[:-1]) @ relative.c2w[1:]
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_relative_does_not_depend_on_the_world_frame():
    moved = CameraTrajectory(wander(1, seed=9)[0] @ wander())
    np.testing.assert_allclose(moved.relative().c2w, CameraTrajectory(wander()).relative().c2w, atol=1e-12)


def test_extent_length_and_rotation_of_a_known_path():
    positions = torch.tensor([[0.0, 0, 0], [3, 4, 0], [3, 0, 0]], dtype=torch.float64)
    trajectory = CameraTrajectory(pose(rotation_y(torch.tensor([10.0, -20.0, 15.0])), positions))
    assert trajectory.extent == 5.0
    assert trajectory.length == 9.0
    assert trajectory.rotation_extent == pytest.approx(30.0)


def test_a_single_pose_has_no_extent():
    trajectory = CameraTrajectory(wander(1))
    assert (trajectory.extent, trajectory.length) == (0.0, 0.0)


def test_scaling_scales_lengths_and_depth_and_nothing_else():
    trajectory = CameraTrajectory(wander(), scene_depth=10.0)
    scaled = trajectory.scaled(2.5)
    np.testing.assert_allclose(scaled.positions, trajectory.positions * 2.5)
    assert torch.equal(scaled.rotations, trajectory.rotations)
    assert scaled.scene_depth == 25.0
    assert CameraTrajectory(wander()).scaled(2.0).scene_depth is None


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_scale_factors_must_be_positive(factor):
    with pytest.raises(TrajectoryError, match="scale factor"):
        CameraTrajectory(wander()).scaled(factor)


def test_resampling_keeps_the_ends_and_the_fields():
    trajectory = CameraTrajectory(wander(), torch.diag(torch.tensor([5.0, 5.0, 1.0])), (4, 4), 3.0)
    resampled = trajectory.resample(20)
    np.testing.assert_allclose(resampled.c2w[[0, -1]], trajectory.c2w[[0, -1]], atol=1e-12)
    assert (resampled.num_frames, resampled.image_size, resampled.scene_depth) == (20, (4, 4), 3.0)
    assert torch.equal(resampled.intrinsics, trajectory.intrinsics)


def test_resampling_a_uniform_motion_is_exact():
    def uniform(n):
        t = torch.linspace(0, 1, n, dtype=torch.float64)
        return pose(rotation_y(170 * t), torch.stack([3 * t, 0 * t, t], -1))

    np.testing.assert_allclose(CameraTrajectory(uniform(5)).resample(13).c2w, uniform(13), atol=1e-12)


def test_resampling_to_a_multiple_passes_through_every_pose():
    trajectory = CameraTrajectory(wander(5))
    np.testing.assert_allclose(trajectory.resample(13).c2w[::3], trajectory.c2w, atol=1e-12)


def test_resampling_takes_the_short_way_round():
    trajectory = CameraTrajectory(
        pose(rotation_y(torch.tensor([-170.0, 170.0])), torch.zeros(2, 3, dtype=torch.float64))
    )
    np.testing.assert_allclose(trajectory.resample(3).rotations[1], rotation_y(180.0), atol=1e-12)


def test_resampling_to_and_from_one_frame():
    trajectory = CameraTrajectory(wander())
    np.testing.assert_allclose(trajectory.resample(1).c2w[0], trajectory.c2w[0], atol=1e-12)
    np.testing.assert_allclose(CameraTrajectory(wander(1)).resample(4).c2w, wander(1).expand(4, 4, 4), atol=1e-12)
    assert trajectory.resample(7) is trajectory


def test_resampling_to_nothing_is_refused():
    with pytest.raises(TrajectoryError, match="at least one frame"):
        CameraTrajectory(wander()).resample(0)
