"""Files of ReCamMaster, MegaSaM and ViPE, written here as those programs write them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from core.camera_truth import truth, write_json
from worldr1_core.camera import load_intrinsics, load_trajectory
from worldr1_core.errors import TrajectoryError


def row_text(matrix: np.ndarray) -> str:
    """Rows in brackets, six significant digits, a space at the end."""
    return "".join("[" + " ".join(f"{value:.6g}" for value in row) + "] " for row in matrix)


def unreal(forward: np.ndarray, right: np.ndarray, up: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Unreal's matrix for row vectors: the camera's axes and its place, in world coordinates, one per row."""
    matrix = np.eye(4)
    matrix[:3, :3] = forward, right, up
    matrix[3, :3] = place
    return matrix


def recammaster(num_frames=12, cameras=("cam01",)) -> dict:
    """A camera that pans right by 5 degrees and drives 10 cm forward along the world's x axis per frame."""
    document = {}
    for index in range(num_frames):
        angle = np.radians(5 * index)
        forward, right = [np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0]
        matrix = unreal(forward, right, [0, 0, 1], [3390 + 10 * index, 1380, 240])
        document[f"frame{index}"] = {name: row_text(matrix) for name in cameras}
    return document


def test_recammaster_poses(tmp_path):
    """Panning right turns about the downward y axis; the world's x axis is frame 0's forward, z, in metres."""
    path = load_trajectory(write_json(tmp_path / "camera_extrinsics.json", recammaster())).relative()
    turns = Rotation.from_euler("y", 5.0 * np.arange(12)[:, None], degrees=True).as_matrix()
    np.testing.assert_allclose(path.rotations, turns, atol=1e-5)
    np.testing.assert_allclose(path.positions, np.arange(12)[:, None] * [0, 0, 0.1], atol=1e-5)


def test_recammaster_frames_are_ordered_by_number(tmp_path):
    document = dict(sorted(recammaster().items()))
    assert list(document)[1:3] == ["frame1", "frame10"]
    path = load_trajectory(write_json(tmp_path / "cameras.json", document)).relative()
    np.testing.assert_allclose(path.positions[:, 2], 0.1 * np.arange(12), atol=1e-6)


def test_recammaster_moves_up_and_right(tmp_path):
    place = {"frame0": [0, 0, 0], "frame1": [0, 50, 30]}
    document = {key: {"cam01": row_text(unreal([1, 0, 0], [0, 1, 0], [0, 0, 1], at))} for key, at in place.items()}
    path = load_trajectory(write_json(tmp_path / "cameras.json", document)).relative()
    np.testing.assert_allclose(path.positions[1], [0.5, -0.3, 0], atol=1e-9)


def test_one_of_several_recammaster_cameras_is_chosen(tmp_path):
    path = write_json(tmp_path / "cameras.json", recammaster(cameras=("cam01", "cam02")))
    with pytest.raises(TrajectoryError, match=r"paths of 2 cameras. Append '#NAME'.*\['cam01', 'cam02'\]"):
        load_trajectory(path)
    assert load_trajectory(f"{path}#cam02").num_frames == 12
    with pytest.raises(TrajectoryError, match="holds no camera 'cam03'"):
        load_trajectory(f"{path}#cam03")


@pytest.mark.parametrize(
    "text",
    [
        "[1 0 0 5] [0 1 0 0] [0 0 1 0] [0 0 0 1] ",
        "[1 0 0 0] [0 1 0 0] [0 0 1 0]",
        "[a 0 0 0] [0 1 0 0] [0 0 1 0] [0 0 0 1]",
        3,
    ],
)
def test_malformed_recammaster_matrices(text, tmp_path):
    path = write_json(tmp_path / "cameras.json", {"frame0": {"cam01": text}})
    with pytest.raises(TrajectoryError, match="'cam01' of frame0 must be the four rows"):
        load_trajectory(path)


def test_recammaster_without_the_last_column(tmp_path):
    document = {"frame0": {"cam01": "[1 0 0] [0 1 0] [0 0 1] [100 200 300]"}}
    path = load_trajectory(write_json(tmp_path / "cameras.json", document))
    assert path.positions.tolist() == [[2, -3, 1]]


def test_missing_recammaster_frames(tmp_path):
    document = recammaster()
    del document["frame5"]
    with pytest.raises(TrajectoryError, match="numbered evenly"):
        load_trajectory(write_json(tmp_path / "cameras.json", document))


INTRINSIC = np.array([[300.0, 0, 128], [0, 300, 72], [0, 0, 1]])


def megasam(path, **changes):
    frames = {"images": np.zeros((5, 144, 256, 3), np.uint8), "depths": np.ones((5, 144, 256), np.float16)}
    np.savez(path, **{**frames, "intrinsic": INTRINSIC, "cam_c2w": truth(), **changes})
    return path


def test_megasam(tmp_path):
    trajectory = load_trajectory(megasam(tmp_path / "scene_sgd_cvd_hr.npz"), image_size=(288, 512))
    np.testing.assert_allclose(trajectory.c2w, truth(), atol=1e-12)
    np.testing.assert_allclose(trajectory.intrinsics, [[600, 0, 256], [0, 600, 144], [0, 0, 1]])


def test_the_frames_of_megasam_state_the_size_of_an_off_centre_camera(tmp_path):
    camera = INTRINSIC + np.array([[0, 0, 40], [0, 0, 0], [0, 0, 0]])
    loaded = load_intrinsics(megasam(tmp_path / "scene.npz", intrinsic=camera), (144, 256))
    np.testing.assert_allclose(loaded, camera)


def vipe(folder, inds=None, fours=((300.0, 300.0, 128.0, 72.0),) * 5, models=None):
    inds = np.arange(5) if inds is None else np.asarray(inds)
    for name, data in (("pose", truth().astype(np.float32)), ("intrinsics", np.array(fours, np.float32))):
        (folder / name).mkdir(exist_ok=True)
        np.savez(folder / name / "clip.npz", data=data, inds=inds)
    if models:
        (folder / "intrinsics" / "clip_camera.txt").write_text("".join(f"{i}: {models}\n" for i in range(5)))
    return folder / "pose" / "clip.npz"


def test_vipe_with_the_intrinsics_beside_it(tmp_path):
    trajectory = load_trajectory(vipe(tmp_path, models="PINHOLE"), image_size=(144, 256))
    np.testing.assert_allclose(trajectory.c2w, truth(), atol=1e-6)
    np.testing.assert_allclose(trajectory.intrinsics, INTRINSIC)


def test_vipe_intrinsics_alone(tmp_path):
    vipe(tmp_path)
    np.testing.assert_allclose(load_intrinsics(tmp_path / "intrinsics" / "clip.npz", (144, 256)), INTRINSIC)


def test_vipe_poses_alone(tmp_path):
    np.savez(tmp_path / "clip.npz", data=truth(), inds=np.arange(5))
    trajectory = load_trajectory(tmp_path / "clip.npz")
    np.testing.assert_allclose(trajectory.c2w, truth(), atol=1e-12)
    assert trajectory.intrinsics is None


def test_vipe_intrinsics_are_no_path(tmp_path):
    vipe(tmp_path)
    with pytest.raises(TrajectoryError, match=r"ViPE's intrinsics.*Give pose/clip.npz"):
        load_trajectory(tmp_path / "intrinsics" / "clip.npz")


@pytest.mark.parametrize("model", ["MEI", "PANORAMA", "SIMPLE_DIVISION"])
def test_vipe_with_another_lens(model, tmp_path):
    path = vipe(tmp_path, models=model)
    with pytest.raises(TrajectoryError, match=f"{model}"):
        load_trajectory(path)
    assert load_trajectory(path, with_camera=False).num_frames == 5


def test_vipe_zoom_keeps_the_path(tmp_path):
    path = vipe(tmp_path, fours=[(300.0 + index, 300.0 + index, 128, 72) for index in range(5)])
    assert load_trajectory(path, image_size=(144, 256)).intrinsics is None


@pytest.mark.parametrize("inds", [[0, 1, 2, 4, 5], [4, 3, 2, 1, 0], [0, 1, 2, 3]])
def test_vipe_frames_without_a_pose(inds, tmp_path):
    np.savez(tmp_path / "clip.npz", data=truth(), inds=np.array(inds))
    with pytest.raises(TrajectoryError, match="must number the frames"):
        load_trajectory(tmp_path / "clip.npz")
