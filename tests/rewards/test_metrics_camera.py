"""Camera metrics against SciPy's rotations, hand calculations and known similarity transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldr1_core.errors import ScoreUnavailable, TrajectoryError
from worldr1_rewards import camera_metrics as cm


def random_path(length: int = 7, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    path = np.tile(np.eye(4), (length, 1, 1))
    path[:, :3, :3] = Rotation.from_rotvec(0.3 * rng.standard_normal((length, 3))).as_matrix()
    path[:, :3, 3] = spread * rng.standard_normal((length, 3))
    return torch.from_numpy(path)


def straight(length: int = 5, total: float = 2.0) -> torch.Tensor:
    path = torch.eye(4, dtype=torch.float64).repeat(length, 1, 1)
    path[:, 2, 3] = torch.linspace(0, total, length)
    return path


def similarity(path: torch.Tensor, scale: float, seed: int = 9) -> torch.Tensor:
    """The same path in another world frame and unit."""
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    moved = path.clone()
    moved[:, :3, :3] = rotation @ path[:, :3, :3]
    moved[:, :3, 3] = scale * path[:, :3, 3] @ rotation.T + torch.tensor([1.0, -2.0, 3.0])
    return moved


def test_rotation_errors_equal_scipy() -> None:
    first, second = random_path(seed=1), random_path(seed=2)
    a = Rotation.from_matrix(first[0, :3, :3].T @ first[:, :3, :3])
    b = Rotation.from_matrix(second[0, :3, :3].T @ second[:, :3, :3])
    np.testing.assert_allclose(cm.rotation_errors(first, second).numpy(), (a.inv() * b).magnitude(), atol=1e-10)


def test_tiny_angles_are_not_lost() -> None:
    path = straight()
    turned = path.clone()
    turned[2, :3, :3] = torch.from_numpy(Rotation.from_rotvec([0, 1e-7, 0]).as_matrix())
    assert float(cm.rotation_errors(turned, path)[2]) == pytest.approx(1e-7, rel=1e-3)


def test_metrics_of_a_path_with_itself_vanish_in_any_frame_and_unit() -> None:
    path = random_path()
    errors = cm.camera_errors(similarity(path, 3.0), path)
    assert errors.rotation == pytest.approx(0, abs=1e-6)
    assert errors.translation == pytest.approx(0, abs=1e-9)
    assert errors.motion == pytest.approx(0, abs=1e-9)


def test_sums_by_hand() -> None:
    reference = straight(5, 2.0)
    estimate = reference.clone()
    estimate[:, 0, 3] = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.5])
    own = math.hypot(2.0, 1.5)
    rel = cm.camera_errors(estimate, reference)
    expected = sum(abs(0.25 * i - 0.5 * i / own) for i in range(1, 4)) + math.hypot(1 - 2 / own, 1.5 / own)
    assert rel.translation == pytest.approx(expected)
    assert rel.motion == pytest.approx(expected)
    absolute = cm.camera_errors(estimate, reference, translation="abs")
    assert absolute.translation == pytest.approx(0.75)
    assert absolute.per_frame.translation == pytest.approx(0.15)
    assert absolute.per_frame.num_frames == 1


def test_only_abs_sees_half_the_way() -> None:
    reference, half = straight(5, 2.0), straight(5, 1.0)
    assert cm.camera_errors(half, reference).translation == pytest.approx(0)
    assert cm.camera_errors(half, reference, translation="abs").translation == pytest.approx(1.25)


def test_motion_counts_rotation_and_translation() -> None:
    path = straight()
    turned = path.clone()
    turned[4, :3, :3] = torch.from_numpy(Rotation.from_euler("y", 10, degrees=True).as_matrix())
    errors = cm.camera_errors(turned, path)
    assert errors.rotation == pytest.approx(math.radians(10))
    assert errors.motion == pytest.approx(2 * math.sqrt(2) * math.sin(math.radians(5)))


@pytest.mark.parametrize("translation", ["rel", "abs"])
def test_static_paths_have_finite_errors(translation) -> None:
    still = torch.eye(4).repeat(4, 1, 1)
    assert cm.camera_errors(still, still, translation=translation).motion == 0
    moved = cm.camera_errors(straight(4), still, translation=translation)
    assert math.isfinite(moved.translation)
    assert moved.translation > 1


def test_fit_scale_is_exact_least_squares_and_never_negative() -> None:
    path = random_path(seed=3)
    assert cm.fit_scale(similarity(path, 0.25), path) == pytest.approx(4.0)
    assert cm.fit_scale(straight(5, -1.0), straight(5, 1.0)) == 0
    assert cm.fit_scale(straight(5, 0.0), straight(5, 1.0)) == 1


def test_anchored_error_keeps_roll_of_a_straight_path() -> None:
    path = straight()
    rolled = path.clone()
    rolled[:, :3, 3] = rolled[:, :3, 3] @ torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64).T
    assert cm.absolute_trajectory_error(path, path) == 0
    assert cm.absolute_trajectory_error(rolled, path) > 1
    assert cm.absolute_trajectory_error(rolled, path, alignment="umeyama") > 1


def test_umeyama_removes_a_similarity_that_starts_at_another_orientation() -> None:
    path = random_path(9, seed=4)
    moved = similarity(path, 2.0)
    moved[0, :3, :3] = moved[0, :3, :3] @ torch.from_numpy(Rotation.from_euler("y", 20, degrees=True).as_matrix())
    assert cm.absolute_trajectory_error(moved, path, alignment="umeyama") == pytest.approx(0, abs=1e-9)
    assert cm.absolute_trajectory_error(moved, path) > 0.01
    assert cm.absolute_trajectory_error(moved, path, alignment="none") > 0.1


def test_ate_by_hand() -> None:
    reference = straight(5, 4.0)
    estimate = reference.clone()
    estimate[4, 1, 3] = 5.0
    expected = 5.0 / math.sqrt(5)
    assert cm.absolute_trajectory_error(estimate, reference, alignment="none") == pytest.approx(expected)


def test_relative_error_sees_shake_but_not_an_early_turn() -> None:
    path = straight(9, 4.0)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.from_numpy(Rotation.from_euler("y", 5, degrees=True).as_matrix())
    bent = torch.cat([path[:1], turn @ path[1:]])
    _, angle = cm.relative_pose_error(bent, path)
    assert math.degrees(angle) == pytest.approx(5 / 8)
    shaken = path.clone()
    shaken[1::2, :3, :3] = turn[:3, :3]
    assert math.degrees(cm.relative_pose_error(shaken, path)[1]) == pytest.approx(5.0)
    assert cm.relative_pose_error(path, path, stride=4) == (0.0, pytest.approx(0, abs=1e-7))


def test_steps_compose_to_the_path() -> None:
    path = random_path(5, seed=6)
    moves = cm.steps(path)
    pose = path[0]
    for move in moves:
        pose = pose @ move
    torch.testing.assert_close(pose, path[4])


@pytest.mark.parametrize("bad", [torch.eye(4), torch.eye(3).repeat(2, 1, 1), torch.zeros(0, 4, 4)])
def test_malformed_paths_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(TrajectoryError, match=r"\(T, 4, 4\)"):
        cm.relative_to_first(bad)


def test_bad_arguments_are_named() -> None:
    path = straight()
    broken = path.clone()
    broken[1, 0, 0] = math.nan
    with pytest.raises(TrajectoryError, match="finite"):
        cm.rotation_errors(broken, path)
    with pytest.raises(TrajectoryError, match="5 and 3"):
        cm.rotation_errors(path, path[:3])
    with pytest.raises(TrajectoryError, match="'rel' or 'abs'"):
        cm.camera_errors(path, path, translation="metric")  # type: ignore[arg-type]
    with pytest.raises(TrajectoryError, match="alignment"):
        cm.absolute_trajectory_error(path, path, alignment="sim3")  # type: ignore[arg-type]
    with pytest.raises(TrajectoryError, match="stride"):
        cm.relative_pose_error(path, path, stride=5)


def test_failures_are_counted_by_kind_of_reason() -> None:
    outcomes = [
        None,
        ScoreUnavailable("clip 1: COLMAP placed 0 of 9 frames."),
        ScoreUnavailable("clip 2: COLMAP placed 4 of 17 frames."),
        "clip 3: no texture",
        None,
    ]
    found = cm.failure_rate(outcomes)
    assert (found.count, found.num_clips) == (3, 5)
    assert found.rate == pytest.approx(0.6)
    assert list(found.reasons.items()) == [("COLMAP placed # of # frames.", 2), ("no texture", 1)]
    assert cm.failure_rate([None]).rate == 0.0


def test_a_failure_rate_of_no_clips_is_an_error() -> None:
    with pytest.raises(TrajectoryError, match="at least one clip"):
        cm.failure_rate([])
