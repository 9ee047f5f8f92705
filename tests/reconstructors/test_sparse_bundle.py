"""Bundle adjustment of tracked points against scenes whose cameras, points and focal length are known."""

from __future__ import annotations

import math

import pytest
import torch

from reconstructors.camera_errors import rotation_errors
from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.focal_prior import FocalPrior
from worldr1_rewards.reconstructors.rigid import retract
from worldr1_rewards.reconstructors.sparse_bundle import (
    SparseScene,
    adjust,
    project,
    residuals,
    soft_inliers,
    triangulated,
)

FOCAL, WIDTH, HEIGHT = 300.0, 400, 240


def true_scene(noise: float = 0.2, outliers: float = 0.0, seed: int = 0) -> SparseScene:
    """A camera that pushes in and turns past a box of points; observations with noise in pixels."""
    generator = torch.Generator().manual_seed(seed)
    count, frames = 150, 8
    points = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    points = (points - torch.tensor([0.5, 0.5, 0.0])) * torch.tensor([4.0, 2.5, 4.0]) + torch.tensor([0.0, 0.0, 3.0])
    time = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None]
    poses = retract(time * torch.tensor([0.2, 0.0, -0.9, 0.0, 0.25, 0.02], dtype=torch.float64))
    matrix = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    pixels, z = project(poses, points, matrix)
    inside = (z > 0.1) & (pixels > 0).all(-1) & (pixels < torch.tensor([WIDTH, HEIGHT])).all(-1)
    pixels = pixels + noise * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    wrong = torch.rand(inside.shape, generator=generator) < outliers
    pixels = pixels + wrong[..., None] * 40 * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    observed = pixels.masked_fill(~inside[..., None], torch.nan)
    return SparseScene(poses, points, observed, matrix, 0.0, 0.0)


def disturbed(scene: SparseScene, focal: float = FOCAL) -> SparseScene:
    generator = torch.Generator().manual_seed(1)
    twist = 0.02 * torch.randn(len(scene.poses), 6, generator=generator, dtype=torch.float64)
    twist[0] = 0
    points = scene.points + 0.05 * torch.randn(scene.points.shape, generator=generator, dtype=torch.float64)
    matrix = scene.intrinsics.clone()
    matrix[0, 0] = matrix[1, 1] = focal
    return SparseScene(retract(twist) @ scene.poses, points, scene.observed, matrix, 0.0, 0.0)


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_cameras_are_found_from_a_disturbed_start(outliers):
    truth = true_scene(outliers=outliers)
    found = adjust(disturbed(truth))
    assert rotation_errors(invert_pose(found.poses), invert_pose(truth.poses)).max() < 0.1
    assert found.error < 0.4


def test_outliers_are_dropped_and_the_rest_is_kept():
    truth = true_scene(outliers=0.1)
    found = adjust(disturbed(truth))
    assert 0.85 < float(found.seen.sum() / truth.seen.sum()) < 0.95


@pytest.mark.parametrize("start", [0.8, 1.2])
def test_an_unknown_focal_length_is_found_within_its_uncertainty(start):
    truth = true_scene(noise=0.1)
    found = adjust(disturbed(truth, start * FOCAL), focal=FocalPrior(1.5 * FOCAL), num_rounds=5, num_iterations=20)
    error = abs(math.log(float(found.intrinsics[0, 0]) / FOCAL))
    assert error < 0.03
    assert 0 < found.focal_deviation < 0.02
    assert error < 5 * found.focal_deviation


def test_without_parallax_the_prior_decides():
    prior = FocalPrior(250.0, 0.4)
    assert prior.combined(500.0, math.inf) == 250.0
    assert prior.combined(500.0, 0.4) == pytest.approx(250 * math.sqrt(2))
    assert prior.combined(500.0, 1e-6) == pytest.approx(500.0)


def test_gradient_and_curvature_of_the_prior():
    prior = FocalPrior(250.0, 0.4)
    step = 1e-5
    low, high = (prior.terms(0.3 + sign * step, 260.0)[2] for sign in (-1, 1))
    pull, stiffness, _ = prior.terms(0.3, 260.0)
    assert (high - low) / (2 * step) == pytest.approx(2 * pull, rel=1e-5)
    assert stiffness == pytest.approx(1 / 0.16)


def test_soft_inliers_count_exact_observations_fully():
    scene = true_scene(noise=0.0)
    assert soft_inliers(residuals(scene)) == pytest.approx(int(scene.seen.sum()))


def test_a_point_behind_the_camera_is_no_inlier():
    scene = true_scene(noise=0.0)
    behind = SparseScene(scene.poses, -scene.points, scene.observed, scene.intrinsics, 0.0, 0.0)
    assert not bool(residuals(behind)[scene.seen].isfinite().any())


def test_points_are_found_where_the_rays_of_true_cameras_meet():
    truth = true_scene(noise=0.0)
    moved = SparseScene(
        truth.poses, truth.points * torch.tensor([1.1, 0.9, 1.3]), truth.observed, truth.intrinsics, 0.0, 0.0
    )
    seen = truth.seen.sum(0) >= 2
    assert torch.allclose(triangulated(moved).points[seen], truth.points[seen], atol=1e-6)


def test_points_without_parallax_stay():
    truth = true_scene(noise=0.0)
    resting = SparseScene(
        torch.eye(4, dtype=torch.float64).repeat(2, 1, 1),
        truth.points,
        truth.observed[:1].repeat(2, 1, 1),
        truth.intrinsics,
        0.0,
        0.0,
    )
    found = triangulated(resting)
    behind = (found.points[:, 2] < 0) & resting.seen.any(0)
    assert not bool(behind.any())
    assert torch.equal(found.points[~resting.seen.any(0)], truth.points[~resting.seen.any(0)])
