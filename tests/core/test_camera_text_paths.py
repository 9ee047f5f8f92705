"""Camera paths in text files, written here with NumPy and SciPy by the documentation of each format."""

import numpy as np
import pytest

from core.camera_truth import inverse, quaternions, table, truth, write_text
from worldr1_core.camera import load_intrinsics, load_trajectory
from worldr1_core.errors import TrajectoryError


def tum_rows(*, scalar_first: bool = False, unit: float = 1.0, num_frames: int = 5) -> np.ndarray:
    poses = truth(num_frames)
    time = np.arange(num_frames)[:, None] * unit
    return np.hstack([time, poses[:, :3, 3], quaternions(poses, scalar_first=scalar_first)])


def assert_truth(path, atol=1e-12):
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(), atol=atol)


SCALAR_FIRST_HEADERS = [
    "#timestamp [ns],p_x [m],p_y,p_z,q_w,q_x,q_y,q_z",
    "#timestamp, p_x, p_y, p_z, q_w, q_x, q_y, q_z",
    "#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []",
    "# timestamp tx ty tz qw qx qy qz",
    "# format: timestamp tx ty tz qw qx qy qz (camera to world)",
    "timestamp,tx,ty,tz,qw,qx,qy,qz",
    "time,pos_x,pos_y,pos_z,quat_w,quat_x,quat_y,quat_z",
    "timestamp,position.x,position.y,position.z,orientation.w,orientation.x,orientation.y,orientation.z",
]


@pytest.mark.parametrize("header", SCALAR_FIRST_HEADERS)
@pytest.mark.parametrize("separator", [",", " ", ", ", "\t"])
def test_a_header_orders_the_columns(header, separator, tmp_path):
    rows = tum_rows(scalar_first=True, unit=1e9)
    assert_truth(write_text(tmp_path / "path.txt", header + "\n" + table(rows, separator)))


def test_a_header_may_put_the_rotation_before_the_position(tmp_path):
    rows = tum_rows()[:, [0, 4, 5, 6, 7, 1, 2, 3]]
    assert_truth(write_text(tmp_path / "path.txt", "# timestamp qx qy qz qw tx ty tz\n" + table(rows)))


def test_euroc_ground_truth_with_velocities_and_biases(tmp_path):
    axes = [f"{name}_{axis} [m]" for name in ("v_RS_R", "b_w_RS_S", "b_a_RS_S") for axis in "xyz"]
    header = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], "
    rows = np.hstack([tum_rows(scalar_first=True), np.random.default_rng(0).normal(size=(5, 9))])
    assert_truth(write_text(tmp_path / "data.csv", header + ", ".join(axes) + "\n" + table(rows, ",")))


@pytest.mark.parametrize(
    "header",
    ["", "# ground truth trajectory\n# file: 'rgbd_dataset.bag'\n", "# extrinsics applied\n", "# camera-to-world\n"],
)
def test_without_a_header_the_order_is_tum(header, tmp_path):
    assert_truth(write_text(tmp_path / "path.tum", header + table(tum_rows())))


def test_byte_order_mark_and_windows_line_ends(tmp_path):
    text = table(tum_rows()).replace("\n", "\r\n")
    assert_truth(write_text(tmp_path / "path.txt", text, encoding="utf-8-sig"))


def test_a_byte_order_mark_before_a_header(tmp_path):
    text = "#timestamp,p_x,p_y,p_z,q_w,q_x,q_y,q_z\r\n" + table(tum_rows(scalar_first=True), ",").replace("\n", "\r\n")
    assert_truth(write_text(tmp_path / "path.txt", text, encoding="utf-8-sig"))


def test_a_comment_that_says_world_to_camera_inverts(tmp_path):
    w2c = inverse(truth())
    rows = np.hstack([np.arange(5)[:, None], w2c[:, :3, 3], quaternions(w2c)])
    assert_truth(write_text(tmp_path / "path.txt", "# world-to-camera poses\n" + table(rows)))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("# timestamp tx ty tz qw qx qy", r"missing or repeated are \['qz'\]"),
        ("# tx ty tz qw qx qy qz", r"missing or repeated are \['time'\]"),
        ("# time stamp, position (x y z), quaternion (w x y z)", "must name every column once"),
        ("# timestamp,tx,ty,tz,qw,qx,qy,qz,confidence", "names 9 columns, the rows have 8"),
        ("# timestamp tx ty tz qx qy qz qw\n# timestamp tx ty tz qw qx qy qz", "order the columns differently"),
        ("# world-to-camera\n# camera-to-world", "state both pose directions"),
    ],
)
def test_headers_that_cannot_be_followed(header, message, tmp_path):
    path = write_text(tmp_path / "path.txt", header + "\n" + table(tum_rows(scalar_first=True)))
    with pytest.raises(TrajectoryError, match=message):
        load_trajectory(path)


def test_text_in_another_encoding(tmp_path):
    path = write_text(tmp_path / "path.txt", table(tum_rows()), encoding="utf-16")
    with pytest.raises(TrajectoryError, match="cannot be read as UTF-8 text"):
        load_trajectory(path)


def test_kitti(tmp_path):
    assert_truth(write_text(tmp_path / "00.txt", table(truth()[:, :3].reshape(5, 12))))


def test_kitti_rows_in_a_file_that_is_called_world_to_camera(tmp_path):
    assert_truth(write_text(tmp_path / "w2c.txt", table(inverse(truth())[:, :3].reshape(5, 12))))


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (7, "position and quaternion without time stamp"),
        (13, "time stamp or index and a matrix"),
        (16, "4 x 4 matrices, camera-to-world or world-to-camera"),
        (17, "EuRoC's ground truth without its header"),
    ],
)
def test_other_widths_are_ambiguous_and_list_the_candidates(columns, hint, tmp_path):
    path = write_text(tmp_path / "path.txt", table(np.ones((5, columns))))
    with pytest.raises(TrajectoryError, match=f"TUM.*KITTI.*RealEstate10K.*{columns} fields.*{hint}"):
        load_trajectory(path)


def test_a_line_of_another_width_is_named(tmp_path):
    path = write_text(tmp_path / "00.txt", table(truth()[:, :3].reshape(5, 12)) + "1 2 3\n")
    with pytest.raises(TrajectoryError, match="line 6 must be 12 numbers like line 1, received '1 2 3'"):
        load_trajectory(path)


CAMERA = [0.6, 1.2, 0.5, 0.5]


def realestate(camera=CAMERA, lens=(0.0, 0.0), title="https://www.youtube.com/watch?v=abc\n") -> str:
    time = 33_000.0 * np.arange(5)[:, None]
    camera = np.broadcast_to(np.asarray(camera), (5, 4))
    rows = np.hstack([time, camera, np.tile(lens, (5, 1)), inverse(truth())[:, :3].reshape(5, 12)])
    return title + table(rows)


@pytest.mark.parametrize("title", ["https://www.youtube.com/watch?v=a#b,c\n", "", "12345\n", "a scene\n"])
def test_realestate10k_poses_are_world_to_camera(title, tmp_path):
    assert_truth(write_text(tmp_path / "scene.txt", realestate(title=title)))


def test_realestate10k_intrinsics_are_normalised(tmp_path):
    path = write_text(tmp_path / "scene.txt", realestate())
    expected = [[0.6 * 200, 0, 100], [0, 1.2 * 100, 50], [0, 0, 1]]
    np.testing.assert_allclose(load_trajectory(path, image_size=(100, 200)).intrinsics, expected)
    np.testing.assert_allclose(load_intrinsics(path, (100, 200)), expected)


def test_realestate10k_intrinsics_of_another_aspect_ratio_offer_both_answers(tmp_path):
    """Focal lengths of 0.6 W and 1.2 H are those of a 2:1 image: its height gives a square crop 120 pixels for 100."""
    path = write_text(tmp_path / "scene.txt", realestate())
    with pytest.raises(TrajectoryError, match="another aspect ratio") as caught:
        load_trajectory(path, image_size=(100, 100))
    message = str(caught.value)
    assert "[[120.0, 0.0, 50.0], [0, 120.0, 50.0], [0, 0, 1]] if the clip was cropped about its centre" in message
    assert "[[60.0, 0.0, 50.0], [0, 120.0, 50.0], [0, 0, 1]] if it was stretched" in message


def test_realestate10k_zoom_keeps_the_path(tmp_path):
    camera = np.array(CAMERA) * np.linspace(1, 1.2, 5)[:, None] ** [1, 1, 0, 0]
    path = write_text(tmp_path / "scene.txt", realestate(camera))
    assert load_trajectory(path, image_size=(100, 200)).intrinsics is None
    assert_truth(path)
    with pytest.raises(TrajectoryError, match="no intrinsics that hold for all frames"):
        load_intrinsics(path, (100, 200))


def test_realestate10k_lens_distortion(tmp_path):
    path = write_text(tmp_path / "scene.txt", realestate(lens=(0.1, 0.0)))
    with pytest.raises(TrajectoryError, match=r"lens distortion: \{'k1': 0.1\}"):
        load_trajectory(path)


def test_realestate10k_time_runs_forward(tmp_path):
    title, first, second, *rest = realestate().splitlines()
    path = write_text(tmp_path / "scene.txt", "\n".join([title, second, first, *rest]))
    with pytest.raises(TrajectoryError, match="must not decrease"):
        load_trajectory(path)
