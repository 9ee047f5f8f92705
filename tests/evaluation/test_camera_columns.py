"""Columns of camera paths, compared with independent computations and with paths that are known to be wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, TrajectoryError
from worldr1_core.reward import RewardInputs
from worldr1_core.testing import check_reward
from worldr1_core.video import Video
from worldr1_rewards.camera_auc import pair_direction_errors, pair_rotation_errors, pose_auc
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.camera_errors import CameraAUCReward, CameraErrorsReward
from worldr1_rewards.rewards.rerender_similarity import SSIMReward
from worlds.truth import true_reconstruction


def random_path(seed, num_frames=7, *, step=0.3):
    draws = np.random.default_rng(seed)
    c2w = np.tile(np.eye(4), (num_frames, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(0.2 * draws.normal(size=(num_frames, 3)).cumsum(0)).as_matrix()
    c2w[:, :3, 3] = step * draws.normal(size=(num_frames, 3)).cumsum(0)
    return torch.as_tensor(c2w)


def details(reward, estimate, target, **options):
    """What a reward reports for an estimated and a commanded path."""
    world = render_world("rich", "push in", size=(32, 32), num_frames=len(estimate))
    path = CameraTrajectory(estimate, scene_depth=2.0)
    known = replace(true_reconstruction(world), trajectory=path, **{"has_parallax": True, **options})
    clip = Clip(Video(world.frames), "", None if target is None else CameraTrajectory(target, scene_depth=2.0))
    return reward.score(clip, RewardInputs(known)).details


def relative(path):
    path = path.numpy()
    return np.linalg.inv(path[0]) @ path


def test_camera_errors_equal_an_independent_computation():
    estimate, target = random_path(0), random_path(1)
    first, second = relative(estimate), relative(target)
    for path in (first, second):
        path[:, :3, 3] /= np.linalg.norm(path[:, :3, 3], axis=1).max()
    turns = Rotation.from_matrix(first[:, :3, :3]).inv() * Rotation.from_matrix(second[:, :3, :3])
    found = details(CameraErrorsReward(), estimate, target)
    assert found["rot_err"] == pytest.approx(turns.magnitude().sum(), abs=1e-6)
    assert found["trans_err"] == pytest.approx(np.linalg.norm((first - second)[:, :3, 3], axis=1).sum(), abs=1e-6)
    assert found["cam_mc"] == pytest.approx(np.linalg.norm((first - second)[:, :3], axis=(1, 2)).sum(), abs=1e-6)


def test_scale_does_not_count_and_ate_is_a_share_of_the_path():
    target = random_path(2)
    estimate = target.clone()
    estimate[:, :3, 3] *= 7
    found = details(CameraErrorsReward(), estimate, target)
    assert max(found[key] for key in ("rot_err", "trans_err", "cam_mc", "ate", "rpe_trans", "rpe_rot")) < 1e-3
    larger = target.clone()
    larger[:, :3, 3] *= 100
    assert details(CameraErrorsReward(), random_path(3), target)["ate"] == pytest.approx(
        details(CameraErrorsReward(), random_path(3), larger)["ate"]
    )


def test_a_resting_target_is_compared_in_scene_depths():
    """Normalised by its own extent, any trace of motion would look like a whole path."""
    rest = torch.eye(4, dtype=torch.float64).repeat(7, 1, 1)
    drift = rest.clone()
    drift[:, 0, 3] = torch.linspace(0, 0.02, 7)
    found = details(CameraErrorsReward(), drift, rest)
    assert found["trans_err"] == pytest.approx(drift[:, 0, 3].sum() / 2.0)
    assert found["ate"] == pytest.approx(float((drift[:, 0, 3] / 2).square().mean().sqrt()))
    still = details(CameraErrorsReward(), drift, rest, has_parallax=False)
    assert still["trans_err"] == 0
    assert "trans_auc_5" not in details(CameraAUCReward(), drift, rest)


def test_auc_is_the_area_under_the_recall_curve():
    errors = torch.tensor([0.1, 3.0, 8.0, 40.0, 14.0])
    thresholds = np.linspace(0, 15, 30001)
    recall = [(errors.numpy() < t).mean() for t in thresholds]
    assert pose_auc(errors, 15) == pytest.approx(np.trapezoid(recall, thresholds) / 15, abs=1e-3)
    with pytest.raises(TrajectoryError, match="positive threshold"):
        pose_auc(errors, 0)


def test_pair_errors_equal_an_independent_computation():
    estimate, target = random_path(4), random_path(5)
    rotations, directions = [], []
    for i in range(7):
        for j in range(i + 1, 7):
            first, second = (np.linalg.inv(path[i].numpy()) @ path[j].numpy() for path in (estimate, target))
            turn = Rotation.from_matrix(first[:3, :3].T @ second[:3, :3])
            rotations.append(np.degrees(turn.magnitude()))
            cosine = first[:3, 3] @ second[:3, 3] / np.linalg.norm(first[:3, 3]) / np.linalg.norm(second[:3, 3])
            directions.append(np.degrees(np.arccos(cosine)))
    np.testing.assert_allclose(pair_rotation_errors(estimate, target), rotations, atol=1e-5)
    np.testing.assert_allclose(pair_direction_errors(estimate, target), directions, atol=1e-5)


def test_opposite_and_absent_motion_earn_no_direction():
    target = random_path(6)
    rest = torch.eye(4, dtype=torch.float64).repeat(7, 1, 1)
    assert details(CameraAUCReward(), rest, target)["trans_auc_30"] == 0
    forward = rest.clone()
    forward[:, 2, 3] = torch.arange(7)
    assert details(CameraAUCReward(), forward, forward)["trans_auc_5"] == 1
    backward = forward.clone()
    backward[:, 2, 3] *= -1
    assert details(CameraAUCReward(), backward, forward)["trans_auc_30"] == 0


def test_no_commanded_path_does_not_apply():
    with pytest.raises(ScoreNotApplicable):
        details(CameraErrorsReward(), random_path(0), None)


@pytest.mark.parametrize("reward", [CameraErrorsReward, CameraAUCReward, SSIMReward])
def test_every_contract_of_rewards_is_kept(reward):
    assert {"deterministic", "batch-and-order"} <= set(check_reward(reward).passed)
