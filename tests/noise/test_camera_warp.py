"""The conditioner `camera-warp`: what moves the noise, where paths come from, and what it says to bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from noise.clips import SMALL, drawn, geometry, path_of, transported, wall_depth
from worldr1_backbones.noise import CameraWarpNoise, GaussianNoise
from worldr1_core.camera import CameraTrajectory, Move, save_trajectory
from worldr1_core.camera.flow import plane_flow
from worldr1_core.camera.geometry import pose, rotation_y
from worldr1_core.errors import TrajectoryError, UserError
from worldr1_core.noise import NoiseRequest

FRAME = (SMALL.video_height, SMALL.video_width)


def _request(**given) -> NoiseRequest:
    return NoiseRequest(SMALL, **given)


def test_without_a_camera_word_it_is_the_gaussian_noise_of_the_seed():
    request = _request(prompt="A quiet harbour.", seed=7)
    noise = CameraWarpNoise().initial_noise(request)
    assert torch.equal(noise.latents, GaussianNoise().initial_noise(request).latents)
    assert noise.trajectory is None
    assert noise.step_delta is None
    assert noise.step_weights == ()


def test_gaussian_noise_ignores_the_prompt():
    first, second = (GaussianNoise().initial_noise(_request(prompt=p)) for p in ("Camera push in.", ""))
    assert torch.equal(first.latents, second.latents)


@pytest.mark.parametrize("move", Move)
def test_every_word_returns_its_path(move):
    noise = drawn(f"Camera {move.phrase}. A quiet harbour.")
    assert torch.equal(noise.trajectory.c2w, path_of(move.phrase).c2w)


def test_strict_reading_wants_the_word_camera():
    prompt = "A fixed bridge. Ships move left."
    assert drawn(prompt).trajectory is not None
    assert drawn(prompt, strict_camera_words=True).trajectory is None


def test_a_given_path_goes_before_the_prompt():
    path = path_of("pull out")
    given = drawn("Camera push in."), CameraWarpNoise().initial_noise(_request(prompt="push in", trajectory=path))
    assert not torch.equal(given[0].step_delta, given[1].step_delta)
    assert torch.equal(given[1].step_delta, drawn("pull out").step_delta)
    assert torch.equal(given[1].trajectory.c2w, path.c2w)


@pytest.mark.parametrize("name", ["path.json", "transforms.json", "path.tum", "path.txt", "path.npy", "path.npz"])
def test_paths_come_from_files(tmp_path, name):
    path = path_of("orbit left")
    file = save_trajectory(path, tmp_path / name)
    # Of these forms ours alone, and npz, state the depth of the scene.
    noise = drawn("Camera push in.", trajectory=str(file), scene_depth=1000.0)
    torch.testing.assert_close(noise.trajectory.c2w, path.c2w)
    torch.testing.assert_close(noise.step_delta, drawn("orbit left").step_delta, atol=0.2, rtol=0)


def test_a_path_is_seen_from_its_first_camera(tmp_path):
    path = path_of("pull left")
    moved = torch.linalg.inv(path.c2w[5]) @ path.c2w
    file = tmp_path / "poses.npy"
    np.save(file, moved.numpy())
    noise = drawn("", trajectory=str(file), scene_depth=1000.0)
    torch.testing.assert_close(noise.trajectory.c2w, path.c2w)


def test_a_path_of_another_unit_moves_the_image_alike():
    path = path_of("push in")
    first, second = (transported(trajectory=p) for p in (path, path.scaled(0.001)))
    assert float((first == second).float().mean()) > 0.99


def test_a_path_of_wrong_length_is_refused_unless_it_may_be_stretched():
    path = path_of("push in", geometry(frames=33))
    with pytest.raises(TrajectoryError, match=r"33 poses, the video 17 frames.*resample"):
        CameraWarpNoise().initial_noise(_request(trajectory=path))
    noise = CameraWarpNoise(resample=True).initial_noise(_request(trajectory=path))
    torch.testing.assert_close(noise.trajectory.c2w, path_of("push in").c2w)


def test_a_file_of_wrong_length_is_refused(tmp_path):
    file = save_trajectory(path_of("push in", geometry(frames=9)), tmp_path / "p.json")
    with pytest.raises(TrajectoryError, match="9 poses"):
        drawn("", trajectory=str(file))


def test_a_missing_or_malformed_file_is_named(tmp_path):
    with pytest.raises(TrajectoryError, match="no such file"):
        drawn("", trajectory=str(tmp_path / "none.json"))
    file = tmp_path / "p.json"
    matrices = np.tile(np.eye(4), (17, 1, 1))
    matrices[3, :3, :3] *= 1.5
    file.write_text(json.dumps({"c2w": matrices.tolist()}))
    with pytest.raises(TrajectoryError, match="frame 3 is not rigid"):
        drawn("", trajectory=str(file))


def test_a_moving_path_needs_the_depth_of_the_scene():
    path = CameraTrajectory(path_of("push in").c2w)
    with pytest.raises(TrajectoryError, match="scene_depth"):
        CameraWarpNoise().initial_noise(_request(trajectory=path))
    given = CameraWarpNoise(scene_depth=1000.0).initial_noise(_request(trajectory=path))
    assert torch.equal(given.step_delta, drawn("push in").step_delta)


def test_a_turning_path_needs_no_depth():
    yaw = torch.linspace(0, 14, SMALL.video_frames, dtype=torch.float64)
    path = CameraTrajectory(pose(rotation_y(yaw), torch.zeros(SMALL.video_frames, 3, dtype=torch.float64)))
    noise = CameraWarpNoise().initial_noise(_request(trajectory=path))
    assert float((noise.step_delta * drawn("pan right").step_delta).mean()) > 0.9


def test_intrinsics_without_their_image_size_are_refused():
    path = CameraTrajectory(path_of("pan left").c2w, torch.tensor([[99.0, 0, 50], [0, 99, 30], [0, 0, 1]]))
    with pytest.raises(TrajectoryError, match="image_size"):
        CameraWarpNoise().initial_noise(_request(trajectory=path))


def test_a_longer_focal_length_moves_the_noise_further():
    c2w = path_of("pan left").c2w
    noise = []
    for focal in (30.0, 400.0):
        matrix = torch.tensor([[focal, 0, FRAME[1] / 2], [0, focal, FRAME[0] / 2], [0, 0, 1]])
        noise.append(transported(trajectory=CameraTrajectory(c2w, matrix, FRAME)))
    still = [float((n[:, 0] * n[:, 1]).mean()) for n in noise]
    assert still[0] > still[1] + 0.2


def test_too_many_moves_for_the_clip():
    with pytest.raises(TrajectoryError, match="need at least 4 frames"):
        drawn("push in, pan left, pull out", sizes=geometry(frames=1))


def test_depth_needs_a_path():
    depth = torch.full((SMALL.video_frames, *FRAME), 1000.0)
    with pytest.raises(UserError, match="Depth alone moves nothing"):
        CameraWarpNoise().initial_noise(_request(prompt="A harbour.", depth=depth))


def test_flow_needs_no_path():
    flow = torch.zeros(SMALL.video_frames - 1, 2, *FRAME)
    noise = CameraWarpNoise().initial_noise(_request(prompt="A harbour.", flow=flow))
    assert noise.trajectory is None
    assert noise.step_delta is not None


def _with(value: float, at: tuple[int, ...], shape: tuple[int, ...], fill: float) -> torch.Tensor:
    tensor = torch.full(shape, float(fill))
    tensor[at] = value
    return tensor


FLOW = (SMALL.video_frames - 1, 2, *FRAME)
DEPTH = (SMALL.video_frames, *FRAME)
BAD_MOTION = {
    "flow of too few frames": ({"flow": torch.zeros(15, 2, *FRAME)}, r"flow must be \(T - 1, 2, H, W\)"),
    "flow at the latent's size": ({"flow": torch.zeros(16, 2, 15, 26)}, "at the video's size"),
    "flow with channels last": ({"flow": torch.zeros(16, *FRAME, 2)}, "received shape"),
    "flow of integers": ({"flow": torch.zeros(FLOW, dtype=torch.int64)}, "floating-point"),
    "flow as an array": ({"flow": np.zeros(FLOW)}, "received 'ndarray'"),
    "infinite flow": ({"flow": _with(torch.inf, (3, 1, 5, 7), FLOW, 0)}, "frame 3, row 5, column 7"),
    "flow that is NaN in x alone": ({"flow": _with(torch.nan, (3, 0, 5, 7), FLOW, 0)}, "in x and y alike"),
    "depth of too many frames": ({"depth": torch.ones(18, *FRAME)}, r"depth must be \(T, H, W\)"),
    "depth with a channel": ({"depth": torch.ones(17, 1, *FRAME)}, "received shape"),
    "negative depth": ({"depth": _with(-2.0, (1, 2, 3), DEPTH, 1)}, "received -2.0 in frame 1, row 2, column 3"),
    "zero depth": ({"depth": _with(0.0, (1, 2, 3), DEPTH, 1)}, "positive and finite"),
    "infinite depth": ({"depth": _with(torch.inf, (1, 2, 3), DEPTH, 1)}, "sky"),
    "NaN depth": ({"depth": _with(torch.nan, (1, 2, 3), DEPTH, 1)}, "positive and finite"),
    "both": ({"flow": torch.zeros(FLOW), "depth": torch.ones(DEPTH)}, "both flow and depth"),
}


@pytest.mark.parametrize("case", BAD_MOTION)
def test_bad_motion_is_refused(case):
    motion, message = BAD_MOTION[case]
    with pytest.raises(UserError, match=message):
        CameraWarpNoise().initial_noise(_request(prompt="push in", **motion))


def test_flow_that_leaves_sight_everywhere_gives_fresh_noise():
    flow = torch.full(FLOW, torch.nan)
    noise = transported(flow=flow)
    assert abs(float((noise[:, 0] * noise[:, 1]).mean())) < 0.1


def test_plane_flow_with_nan_is_accepted():
    positions = torch.zeros(SMALL.video_frames, 3, dtype=torch.float64)
    positions[9:, 2] = 1500
    c2w = pose(torch.eye(3, dtype=torch.float64).expand(SMALL.video_frames, 3, 3), positions)
    flow = plane_flow(CameraTrajectory(c2w, scene_depth=1000), FRAME)
    assert bool(flow.isnan().any())
    assert bool(transported(flow=flow).isfinite().all())


def test_a_latent_that_shows_more_than_the_video_is_refused():
    sizes = type(SMALL)(4, 6, 15, 26, 17, 120, 208, 4, 8)
    with pytest.raises(UserError, match="need 21 video frames, received 17"):
        drawn("push in", sizes=sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"injection": "delta"}, "injection"),
        ({"degradation": 1.5}, "degradation"),
        ({"filter_size": 8}, "must be odd"),
        ({"strengh": 0.3}, "Did you mean 'strength'"),
        ({"cells_per_pixel": 5}, "cells_per_pixel"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        CameraWarpNoise(**options)


@pytest.mark.parametrize(
    "motion",
    [
        {"prompt": "push in, then pan left"},
        {"flow": plane_flow(path_of("push in"), FRAME)},
        {"prompt": "push in", "depth": wall_depth(path_of("push in"))},
    ],
    ids=["plane", "flow", "depth"],
)
def test_a_seed_gives_the_same_noise_again(motion):
    first, again, other = (CameraWarpNoise().initial_noise(_request(seed=s, **motion)) for s in (3, 3, 4))
    assert torch.equal(first.step_delta, again.step_delta)
    assert torch.equal(first.latents, again.latents)
    assert abs(float((first.latents * other.latents).mean())) < 0.05
