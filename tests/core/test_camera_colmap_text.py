"""COLMAP's text model, written here by its documentation: world-to-camera, scalar first, images in any order."""

import numpy as np
import pytest

from core.camera_truth import inverse, quaternions, truth, write_text
from worldr1_core.camera import load_intrinsics, load_trajectory
from worldr1_core.errors import TrajectoryError

HEADER = "# Image list with two lines of data per image:\n#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"


def images(points="10.5 20.25 -1 30.0 40.0 7", header=HEADER, cameras=(1,) * 12) -> str:
    """Twelve images in the order of registration 11, 10, ..., 0, named `frame_0.png` to `frame_11.png`."""
    w2c = inverse(truth(12))
    turns = quaternions(w2c, scalar_first=True)
    lines = []
    for index in reversed(range(12)):
        numbers = " ".join(repr(float(v)) for v in (*turns[index], *w2c[index, :3, 3]))
        lines += [f"{20 - index} {numbers} {cameras[index]} frame_{index}.png", points]
    return header + "\n".join(lines) + "\n"


def model(folder, listed: str | None, **kinds):
    if listed is not None:
        write_text(folder / "cameras.txt", "# Camera list\n" + listed)
    return write_text(folder / "images.txt", images(**kinds))


@pytest.mark.parametrize("points", ["10.5 20.25 -1 30.0 40.0 7", "", "1 2 3 " * 4])
@pytest.mark.parametrize("header", [HEADER, ""])
def test_images_are_ordered_by_name_and_inverted(points, header, tmp_path):
    path = write_text(tmp_path / "images.txt", images(points, header))
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(12), atol=1e-12)


def test_windows_line_ends(tmp_path):
    path = write_text(tmp_path / "images.txt", images().replace("\n", "\r\n"), encoding="utf-8-sig")
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(12), atol=1e-12)


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("1 SIMPLE_PINHOLE 160 96 200 81 47", [[200, 0, 81], [0, 200, 47], [0, 0, 1]]),
        ("1 PINHOLE 160 96 200 210 81 47", [[200, 0, 81], [0, 210, 47], [0, 0, 1]]),
        ("1 PINHOLE 320 192 400 420 162 94", [[200, 0, 81], [0, 210, 47], [0, 0, 1]]),
        ("1 OPENCV 160 96 200 210 81 47 0 0 0 0", [[200, 0, 81], [0, 210, 47], [0, 0, 1]]),
        ("1 SIMPLE_RADIAL 160 96 200 81 47 0.0", [[200, 0, 81], [0, 200, 47], [0, 0, 1]]),
        ("7 FISHEYE 9 9 1 1 1 1\n1 PINHOLE 160 96 200 210 81 47", [[200, 0, 81], [0, 210, 47], [0, 0, 1]]),
    ],
)  # fmt: skip
def test_the_cameras_beside_it_are_read(camera, expected, tmp_path):
    loaded = load_trajectory(model(tmp_path, camera + "\n"), image_size=(96, 160))
    np.testing.assert_allclose(loaded.intrinsics, expected)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ("1 SIMPLE_RADIAL 160 96 200 80 48 0.02", r"camera 1 \(SIMPLE_RADIAL\) has lens distortion: \{'k1': 0.02\}"),
        ("1 OPENCV 160 96 200 200 80 48 0 0 0 0.01", r"\{'p2': 0.01\}"),
        ("1 OPENCV_FISHEYE 160 96 200 200 80 48 0 0 0 0", "is no pinhole"),
        ("1 NEW_MODEL 160 96 200", "model 'NEW_MODEL' is no pinhole. Allowed: .*'PINHOLE'"),
        ("1 PINHOLE 160 96 200 80 48", "must have the parameters 'fx fy cx cy'"),
        ("2 PINHOLE 160 96 200 200 80 48", r"lacks the cameras \[1\]"),
        ("1 PINHOLE 160 160 200 200 80 80", "another aspect ratio"),
    ],
)
def test_cameras_that_cannot_be_used(camera, message, tmp_path):
    path = model(tmp_path, camera + "\n")
    with pytest.raises(TrajectoryError, match=message):
        load_trajectory(path, image_size=(96, 160))
    assert load_trajectory(path, with_camera=False).num_frames == 12


def test_without_cameras_beside_it_there_are_no_intrinsics(tmp_path):
    assert load_trajectory(model(tmp_path, None)).intrinsics is None


def test_cameras_that_differ_keep_the_path(tmp_path):
    cameras = "1 PINHOLE 160 96 200 200 80 48\n2 PINHOLE 160 96 300 300 80 48\n"
    loaded = load_trajectory(model(tmp_path, cameras, cameras=(1, 2) * 6))
    assert loaded.intrinsics is None
    np.testing.assert_allclose(loaded.c2w, truth(12), atol=1e-12)


def test_cameras_alone_are_intrinsics(tmp_path):
    path = write_text(tmp_path / "cameras.txt", "# Camera list\n1 PINHOLE 320 192 400 420 162 94\n")
    np.testing.assert_allclose(load_intrinsics(path, (96, 160)), [[200, 0, 81], [0, 210, 47], [0, 0, 1]])


def test_cameras_are_no_path(tmp_path):
    path = write_text(tmp_path / "cameras.txt", "1 PINHOLE 320 192 400 420 162 94\n")
    with pytest.raises(TrajectoryError, match=r"list of cameras.*Give images.txt"):
        load_trajectory(path)


def test_an_image_that_is_listed_twice(tmp_path):
    path = write_text(tmp_path / "images.txt", images() + images(header=""))
    with pytest.raises(TrajectoryError, match=r"'frame_0\.png' twice"):
        load_trajectory(path)
