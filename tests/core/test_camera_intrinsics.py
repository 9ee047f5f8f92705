"""Intrinsics of files: normalised, of another image size, with distortion; what is uncertain is refused."""

import json
import math

import numpy as np
import pytest
from structlog.testing import capture_logs

from core.camera_truth import truth, write_json, write_text
from worldr1_core.camera import load_intrinsics, load_trajectory, save_trajectory
from worldr1_core.errors import TrajectoryError

CLIP = (96, 160)


def pinhole(fx, fy, cx, cy):
    return [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]


EXACT = pinhole(192.0, 192.0, 80.0, 48.0)


def loaded(document, tmp_path, size=CLIP):
    return load_intrinsics(write_json(tmp_path / "camera.json", document), size)


@pytest.mark.parametrize(
    "document",
    [
        pinhole(1.2, 2.0, 0.5, 0.5),
        {"intrinsics": pinhole(1.2, 2.0, 0.5, 0.5)},
        {"intrinsics": pinhole(1.2, 2.0, 0.5, 0.5), "image_size": [1080, 1800]},
        {"intrinsics": pinhole(1.2, 2.0, 0.5, 0.5), "image_size": [1, 1]},
        {"fx": 1.2, "fy": 2.0, "cx": 0.5, "cy": 0.5},
        {"fl_x": 1.2, "fl_y": 2.0, "cx": 0.5, "cy": 0.5},
    ],
)
def test_normalised_intrinsics_are_multiplied_by_the_size(document, tmp_path):
    np.testing.assert_allclose(loaded(document, tmp_path), EXACT)


def test_normalised_intrinsics_keep_their_principal_point(tmp_path):
    np.testing.assert_allclose(loaded(pinhole(1.2, 2.0, 0.45, 0.6), tmp_path), pinhole(192, 192, 72, 57.6))


def test_normalised_intrinsics_of_a_square_image_offer_both_answers(tmp_path):
    with pytest.raises(TrajectoryError, match="another aspect ratio") as caught:
        loaded(pinhole(1.2, 1.2, 0.5, 0.5), tmp_path)
    assert str([[192.0, 0.0, 80.0], [0, 192.0, 48.0], [0, 0, 1]]) in str(caught.value)
    assert str([[192.0, 0.0, 80.0], [0, 115.2, 48.0], [0, 0, 1]]) in str(caught.value)


@pytest.mark.parametrize(
    "matrix", [pinhole(1.2, 2.0, 0.0, 0.0), pinhole(1.2, 2.0, 0.1, 0.1), pinhole(5.0, 5.0, 3.0, 2.0)]
)
def test_small_intrinsics_that_are_not_normalised(matrix, tmp_path):
    with pytest.raises(TrajectoryError, match="too small for pixels"):
        loaded(matrix, tmp_path)


@pytest.mark.parametrize("factor", [24, 12, 4, 1.5, 0.5, 0.3])
def test_the_centre_of_another_size_tells_that_size(factor, tmp_path):
    matrix = np.diag([factor, factor, 1.0]) @ EXACT
    np.testing.assert_allclose(loaded(matrix.tolist(), tmp_path), EXACT)


def test_a_size_of_nearly_the_same_aspect_ratio(tmp_path):
    """1280 x 720 for 832 x 480: a stretch of 2.5 per cent at most."""
    scaled = loaded(pinhole(1000.0, 1000.0, 640.0, 360.0), tmp_path, (480, 832))
    np.testing.assert_allclose(scaled, pinhole(650, 667, 416, 240), rtol=0.02)


@pytest.mark.parametrize("centre", [(80, 48), (84, 46), (72, 52), (95, 45), (66, 55), (80.4, 47.7), (83, 50)])
def test_pixels_of_the_clip_keep_an_off_centre_principal_point(centre, tmp_path):
    matrix = pinhole(190.0, 192.0, *map(float, centre))
    assert loaded(matrix, tmp_path).tolist() == matrix


@pytest.mark.parametrize(
    "matrix",
    [
        pinhole(500.0, 500.0, 320.0, 240.0),  # 4:3
        pinhole(500.0, 500.0, 256.0, 256.0),  # square
        pinhole(192.0, 192.0, 48.0, 80.0),  # portrait
        pinhole(192.0, 192.0, 130.0, 48.0),  # a crop
        pinhole(216.0, 216.0, 92.0, 55.2),  # 184 x 110.4, or an off-centre camera
        pinhole(192.0, 192.0, -80.0, -48.0),
    ],
)
def test_a_size_that_cannot_be_told_is_an_error_that_asks_for_it(matrix, tmp_path):
    with pytest.raises(TrajectoryError, match=r'state no image size.*160 x 96.*"image_size": \[H, W\]'):
        loaded(matrix, tmp_path)


def test_a_stated_size_settles_it(tmp_path):
    assert loaded({"intrinsics": pinhole(216, 216, 92, 55), "image_size": [96, 160]}, tmp_path)[0, 2] == 92


@pytest.mark.parametrize("size", [{"h": 192, "w": 320}, {"height": 192, "width": 320}, {"image_size": [192, 320]}])
def test_the_names_of_the_size(size, tmp_path):
    document = {"intrinsics": pinhole(384.0, 384.0, 160.0, 96.0), **size}
    np.testing.assert_allclose(loaded(document, tmp_path), EXACT)


def test_a_principal_point_outside_of_the_stated_size(tmp_path):
    with pytest.raises(TrajectoryError, match=r"principal point at \(1920, 1080\), outside of image_size \[96, 160\]"):
        loaded({"intrinsics": pinhole(192.0, 192.0, 1920, 1080), "image_size": [96, 160]}, tmp_path)


@pytest.mark.parametrize("shape", ["matrices", "fours"])
def test_equal_intrinsics_of_every_frame_are_one_camera(shape, tmp_path):
    values = [EXACT] * 5 if shape == "matrices" else [[192.0, 192.0, 80.0, 48.0]] * 5
    np.testing.assert_allclose(loaded({"intrinsics": values}, tmp_path), EXACT)


def test_intrinsics_that_change_leave_the_path(tmp_path):
    document = {"c2w": truth().tolist(), "intrinsics": [pinhole(190.0 + n, 190.0 + n, 80.0, 48.0) for n in range(5)]}
    path = write_json(tmp_path / "path.json", document)
    with capture_logs() as logs:
        trajectory = load_trajectory(path, image_size=CLIP)
    assert trajectory.intrinsics is None
    assert trajectory.num_frames == 5
    assert [log["log_level"] for log in logs] == ["warning"]
    assert "change from frame to frame" in logs[0]["event"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k1": -0.3, "k2": 0.1}, r"lens distortion: \{'k1': -0.3, 'k2': 0.1\}"),
        ({"k1": 0.0, "p1": 0.001}, r"\{'p1': 0.001\}"),
        ({"k4": 0.01}, "k4"),
        ({"distortion": [0, 0, 0, 0, 0.1]}, r"\{'distortion': \[0, 0, 0, 0, 0.1\]\}"),
        ({"dist_coeffs": [[-0.1, 0, 0, 0]]}, "dist_coeffs"),
        ({"camera_model": "OPENCV", "k1": 0.02}, "lens distortion"),
        ({"camera_model": "OPENCV_FISHEYE"}, "no pinhole: camera_model is 'OPENCV_FISHEYE'"),
        ({"camera_model": "OPENCV_FISHEYE", "k1": -0.3}, r"coefficients \{'k1': -0.3\}.*cv2.fisheye"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
        ({"is_fisheye": True}, "is_fisheye"),
        ({"k1": "much"}, "k1 must be a full array of numbers"),
        ({"k1": float("nan")}, "lens distortion"),
    ],
)
@pytest.mark.parametrize("form", ["matrix", "nerfstudio"])
def test_lens_distortion_is_refused_and_named(fields, message, form, tmp_path):
    camera = {"intrinsics": EXACT} if form == "matrix" else {"fl_x": 192, "fl_y": 192, "cx": 80, "cy": 48}
    with pytest.raises(TrajectoryError, match=message):
        loaded({**camera, **fields}, tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"k1": 0, "k2": 0.0, "p1": 0, "p2": 0},
        {"distortion": [0, 0, 0, 0, 0]},
        {"camera_model": "OPENCV", "k1": 0},
        {"camera_model": "PINHOLE"},
        {"is_fisheye": False},
        {"distortion": None},
    ],
)
def test_zero_distortion_is_a_pinhole(fields, tmp_path):
    np.testing.assert_allclose(loaded({"intrinsics": EXACT, **fields}, tmp_path), EXACT)


@pytest.mark.parametrize("name", ["camera.npy", "camera.npz", "camera.txt", "camera4.txt"])
def test_a_matrix_in_other_files(name, tmp_path):
    path = tmp_path / name
    if name.endswith("npy"):
        np.save(path, EXACT)
    elif name.endswith("npz"):
        np.savez(path, K=np.array(EXACT))
    else:
        matrix = np.eye(4)
        matrix[:3, :3] = EXACT
        np.savetxt(path, EXACT if name == "camera.txt" else matrix)
    np.testing.assert_allclose(load_intrinsics(path, CLIP), EXACT)


def test_distortion_in_an_npz(tmp_path):
    np.savez(tmp_path / "camera.npz", K=np.array(EXACT), dist=np.array([0.1, 0, 0, 0, 0]))
    with pytest.raises(TrajectoryError, match="lens distortion"):
        load_intrinsics(tmp_path / "camera.npz", CLIP)


def test_an_npz_without_a_camera(tmp_path):
    np.savez(tmp_path / "camera.npz", c2w=truth())
    with pytest.raises(TrajectoryError, match=r"holds no camera: needs an array 'intrinsics', received \['c2w'\]"):
        load_intrinsics(tmp_path / "camera.npz", CLIP)


def test_text_that_is_no_camera(tmp_path):
    with pytest.raises(TrajectoryError, match=r"4 x 4 camera must end with the row 0 0 0 1"):
        load_intrinsics(write_text(tmp_path / "camera.txt", "1 2 3 4\n" * 4), CLIP)


def test_a_trajectory_brings_its_intrinsics_to_the_size_of_the_clip(tmp_path):
    """A horizontal field of view of 80 degrees: f = W / (2 tan 40)."""
    focal = 640 / (2 * math.tan(math.radians(40)))
    document = {"c2w": truth().tolist(), "intrinsics": pinhole(focal, focal, 320.0, 192.0), "image_size": [384, 640]}
    trajectory = load_trajectory(write_json(tmp_path / "path.json", document), image_size=CLIP)
    assert trajectory.image_size == CLIP
    assert math.degrees(2 * math.atan(80 / float(trajectory.intrinsics[0, 0]))) == pytest.approx(80)


def test_normalised_intrinsics_survive_writing(tmp_path):
    document = {"c2w": truth().tolist(), "intrinsics": pinhole(1.2, 2.0, 0.5, 0.5)}
    trajectory = load_trajectory(write_json(tmp_path / "path.json", document))
    again = load_trajectory(save_trajectory(trajectory, tmp_path / "again.json"), image_size=CLIP)
    np.testing.assert_allclose(again.intrinsics, EXACT)
    assert json.loads((tmp_path / "again.json").read_text())["image_size"] == [1, 1]
