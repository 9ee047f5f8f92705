"""`transforms.json` of nerfstudio and Blender: the order of frames, cameras of single frames, fields of view."""

import math

import numpy as np
import pytest
from structlog.testing import capture_logs

from core.camera_truth import OPENGL, truth, write_json
from worldr1_core.camera import load_intrinsics, load_trajectory
from worldr1_core.errors import TrajectoryError

CAMERA = {"fl_x": 192.0, "fl_y": 192.0, "cx": 80.0, "cy": 48.0, "w": 160, "h": 96}


def transforms(names=None, fields=None, **top):
    """Frames in the order of the truth; `fields` are those of each frame beside name and matrix."""
    frames = [{"transform_matrix": matrix.tolist()} for matrix in truth() @ OPENGL]
    for index, frame in enumerate(frames):
        frame.update({"file_path": names[index]} if names else {})
        frame.update(fields[index] if fields else {})
    return {**top, "frames": frames}


def shuffled(document, order=(3, 0, 4, 1, 2)):
    return {**document, "frames": [document["frames"][index] for index in order]}


def assert_truth(document, tmp_path):
    path = write_json(tmp_path / "transforms.json", document)
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(), atol=1e-12)


IN_ORDER = [
    ["8.png", "9.png", "10.png", "11.png", "12.png"],
    ["0.5.png", "0.75.png", "1.png", "1.25.png", "1.5.png"],
    ["images/0.9.png", "images/0.95.png", "images/1.0.png", "images/1.05.png", "images/1.1.png"],
    ["-2.png", "-1.png", "0.png", "1.png", "2.png"],
    ["1e-3.png", "1e-2.png", "1e-1.png", "1e0.png", "1e1.png"],
    ["./train/r_0", "./train/r_1", "./train/r_2", "./train/r_10", "./train/r_11"],
    ["t0.5", "t0.75", "t1", "t1.25", "t1.5"],
    ["a.png"] * 5,
]


@pytest.mark.parametrize("names", IN_ORDER)
def test_frames_in_order_keep_their_order(names, tmp_path):
    assert_truth(transforms(names), tmp_path)


@pytest.mark.parametrize("names", [IN_ORDER[0], IN_ORDER[5]])
def test_frames_out_of_order_are_sorted_by_number(names, tmp_path):
    assert_truth(shuffled(transforms(names)), tmp_path)


@pytest.mark.parametrize("key", ["time", "timestamp"])
@pytest.mark.parametrize("names", [None, ["e.png", "d.png", "c.png", "b.png", "a.png"]])
def test_time_stamps_decide(key, names, tmp_path):
    times = [{key: 0.25 * index} for index in range(5)]
    assert_truth(shuffled(transforms(names, times)), tmp_path)


def test_equal_time_stamps_decide_nothing(tmp_path):
    assert_truth(transforms(IN_ORDER[0], [{"time": 0.0}] * 5), tmp_path)


def test_equal_cameras_of_all_frames_are_used(tmp_path):
    path = write_json(tmp_path / "transforms.json", transforms(fields=[CAMERA] * 5))
    expected = [[384, 0, 160], [0, 384, 96], [0, 0, 1]]
    np.testing.assert_allclose(load_trajectory(path, image_size=(192, 320)).intrinsics, expected)
    np.testing.assert_allclose(load_intrinsics(path, (192, 320)), expected)


@pytest.mark.parametrize("rest", [{}, CAMERA])
def test_cameras_that_change_leave_the_path_and_say_so(rest, tmp_path):
    fields = [{**rest, "fl_x": 192.0 + index} for index in range(5)]
    document = transforms(fields=fields, **({"w": 160, "h": 96} if not rest else {}))
    path = write_json(tmp_path / "transforms.json", document)
    with capture_logs() as logs:
        trajectory = load_trajectory(path, image_size=(96, 160))
    np.testing.assert_allclose(trajectory.c2w, truth(), atol=1e-12)
    assert trajectory.intrinsics is None
    assert [(log["log_level"], "intrinsics dropped" in log["event"]) for log in logs] == [("warning", True)]


def test_a_focal_length_without_a_size_leaves_the_path_and_says_so(tmp_path):
    path = write_json(tmp_path / "transforms.json", transforms(fields=[{"fl_x": 192.0}] * 5))
    with capture_logs() as logs:
        assert load_trajectory(path).intrinsics is None
    assert "no principal point and no image size" in logs[0]["event"]


def test_cameras_that_change_are_no_intrinsics(tmp_path):
    fields = [{**CAMERA, "fl_x": 192.0 + index} for index in range(5)]
    path = write_json(tmp_path / "transforms.json", transforms(fields=fields))
    with pytest.raises(TrajectoryError, match="no intrinsics that hold for all frames"):
        load_intrinsics(path, (96, 160))


@pytest.mark.parametrize("where", ["top", "frame"])
def test_distortion_anywhere_is_refused(where, tmp_path):
    lens = {"k1": 0.1}
    document = transforms(**CAMERA, **lens) if where == "top" else transforms(fields=[lens] * 5, **CAMERA)
    path = write_json(tmp_path / "transforms.json", document)
    with pytest.raises(TrajectoryError, match=r"lens distortion: \{'k1': 0.1\}.*Undistort the frames"):
        load_trajectory(path)
    np.testing.assert_allclose(load_trajectory(path, with_camera=False).c2w, truth(), atol=1e-12)


def test_a_frame_overrides_the_shared_camera(tmp_path):
    document = transforms(fields=[{"fl_x": 200.0, "fl_y": 200.0}] * 5, **CAMERA)
    path = write_json(tmp_path / "transforms.json", document)
    assert load_trajectory(path).intrinsics.diagonal().tolist() == [200, 200, 1]


ANGLE = 2 * math.atan(1 / 2.4)  # a focal length of 1.2 image widths


@pytest.mark.parametrize("size", [{}, {"w": 800, "h": 480}])
def test_blender_states_a_field_of_view(size, tmp_path):
    document = transforms(["./train/r_0", "./train/r_1", "./train/r_2", "./train/r_3", "./train/r_4"])
    path = write_json(tmp_path / "transforms_train.json", {"camera_angle_x": ANGLE, **size, **document})
    trajectory = load_trajectory(path, image_size=(96, 160))
    np.testing.assert_allclose(trajectory.c2w, truth(), atol=1e-12)
    np.testing.assert_allclose(trajectory.intrinsics, [[192, 0, 80], [0, 192, 48], [0, 0, 1]])


def test_a_field_of_view_alone_gives_no_pixels_before_the_clip_is_known(tmp_path):
    path = write_json(tmp_path / "transforms.json", transforms(camera_angle_x=ANGLE))
    assert load_trajectory(path).intrinsics is None


@pytest.mark.parametrize("size", [{}, {"w": 800, "h": 480}])
def test_a_vertical_field_of_view(size, tmp_path):
    vertical = 2 * math.atan(48 / 192)
    document = {"camera_angle_x": ANGLE, "camera_angle_y": vertical, **size}
    loaded = load_intrinsics(write_json(tmp_path / "camera.json", document), (96, 160))
    np.testing.assert_allclose(loaded, [[192, 0, 80], [0, 192, 48], [0, 0, 1]])


@pytest.mark.parametrize("angle", [0, -1, 80, "1"])
def test_a_field_of_view_that_is_none(angle, tmp_path):
    path = write_json(tmp_path / "transforms.json", transforms(camera_angle_x=angle))
    with pytest.raises(TrajectoryError, match="'camera_angle_x' must be a"):
        load_trajectory(path, image_size=(96, 160))
