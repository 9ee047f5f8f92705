"""Camera files: exact round trips, conventions checked by projection, and messages for every kind of mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from worldr1_core.camera import (
    CameraTrajectory,
    default_intrinsics,
    load_intrinsics,
    load_trajectory,
    save_trajectory,
    trajectory_from_prompt,
)
from worldr1_core.camera.geometry import pose
from worldr1_core.errors import OutputError, TrajectoryError

NAMES = ["trajectory.json", "transforms.json", "poses.txt", "poses.tum", "poses.npy", "poses.npz"]


def random_trajectory(seed: int, num_frames: int, scale: float = 1.0) -> CameraTrajectory:
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(num_frames, random_state=seed).as_matrix()
    positions = torch.from_numpy(rng.normal(scale=scale, size=(num_frames, 3)))
    intrinsics = [
        [rng.uniform(50, 900), 0, rng.uniform(1, 400)],
        [0, rng.uniform(50, 900), rng.uniform(1, 300)],
        [0, 0, 1],
    ]
    return CameraTrajectory(pose(torch.from_numpy(rotations), positions), intrinsics, (300, 400), rng.uniform(1, 1000))


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def identity_document(num_frames: int = 2, **fields: object) -> dict[str, object]:
    return {"c2w": torch.eye(4).expand(num_frames, 4, 4).tolist(), **fields}


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), num_frames=st.integers(1, 120), scale=st.sampled_from([1e-3, 1.0, 1e4]))
@settings(max_examples=15, deadline=None)
def test_poses_survive_every_form(name, seed, num_frames, scale, tmp_path_factory):
    trajectory = random_trajectory(seed, num_frames, scale)
    path = tmp_path_factory.mktemp("form") / name
    loaded = load_trajectory(save_trajectory(trajectory, path), num_frames=num_frames)
    np.testing.assert_allclose(loaded.positions, trajectory.positions, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(loaded.rotations, trajectory.rotations, atol=1e-12)


@pytest.mark.parametrize("name", ["trajectory.json", "transforms.json", "poses.npz"])
def test_the_camera_survives_the_forms_that_hold_one(name, tmp_path):
    trajectory = random_trajectory(1, 5)
    loaded = load_trajectory(save_trajectory(trajectory, tmp_path / name))
    assert torch.equal(loaded.intrinsics, trajectory.intrinsics)
    assert loaded.image_size == (300, 400)


@pytest.mark.parametrize("name", ["trajectory.json", "poses.npz"])
def test_the_scene_depth_survives_our_forms(name, tmp_path):
    trajectory = random_trajectory(1, 5)
    assert load_trajectory(save_trajectory(trajectory, tmp_path / name)).scene_depth == trajectory.scene_depth


@pytest.mark.parametrize("name", ["trajectory.json", "poses.npz"])
def test_unknown_fields_stay_unknown(name, tmp_path):
    loaded = load_trajectory(save_trajectory(CameraTrajectory(random_trajectory(1, 5).c2w), tmp_path / name))
    assert (loaded.intrinsics, loaded.image_size, loaded.scene_depth) == (None, None, None)


def test_the_json_form_is_the_documented_one(tmp_path):
    trajectory = trajectory_from_prompt("push in", 3, (240, 416))
    document = json.loads(save_trajectory(trajectory, tmp_path / "new" / "trajectory.json").read_text())
    assert document == {
        "c2w": trajectory.c2w.tolist(),
        "intrinsics": default_intrinsics(240, 416).tolist(),
        "image_size": [240, 416],
        "scene_depth": 1000.0,
    }


def test_nerfstudio_projects_points_to_the_same_pixels(tmp_path):
    """Follows nerfstudio's own ray generation: directions (x - cx) / fx, -(y - cy) / fy, -1, then the matrix."""
    trajectory = random_trajectory(3, 4)
    document = json.loads(save_trajectory(trajectory, tmp_path / "transforms.json").read_text())
    rng = np.random.default_rng(0)
    for index, frame in enumerate(document["frames"]):
        pixel = rng.uniform(0, 300, 2)
        direction = [
            (pixel[0] - document["cx"]) / document["fl_x"],
            -(pixel[1] - document["cy"]) / document["fl_y"],
            -1.0,
        ]
        matrix = np.array(frame["transform_matrix"])
        point = matrix[:3, 3] + 7.0 * matrix[:3, :3] @ direction
        camera = np.linalg.inv(trajectory.c2w[index].numpy()) @ [*point, 1.0]
        seen = trajectory.intrinsics.numpy() @ camera[:3]
        np.testing.assert_allclose(seen[:2] / seen[2], pixel, atol=1e-8)
        assert camera[2] == pytest.approx(7.0)


def test_an_opengl_identity_looks_forward_in_our_axes(tmp_path):
    """OpenGL's identity camera looks along -z with y up: ours has its z axis at -z and its y axis at -y."""
    path = write(
        tmp_path / "transforms.json", {"frames": [{"file_path": "0.png", "transform_matrix": np.eye(4).tolist()}]}
    )
    rotation = load_trajectory(path).rotations[0]
    assert rotation[:, 2].tolist() == [0, 0, -1]
    assert rotation[:, 1].tolist() == [0, -1, 0]


def test_nerfstudio_frames_are_ordered_by_number(tmp_path):
    def frame(number):
        matrix = np.eye(4)
        matrix[0, 3] = number
        return {"file_path": f"./images/frame_{number}.png", "transform_matrix": matrix.tolist()}

    path = write(tmp_path / "transforms.json", {"frames": [frame(n) for n in (10, 2, 1)]})
    assert load_trajectory(path).positions[:, 0].tolist() == [1, 2, 10]


def test_nerfstudio_frames_without_paths_keep_their_order(tmp_path):
    frames = [{"transform_matrix": [[1, 0, 0, n], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]} for n in (3, 1, 2)]
    path = write(tmp_path / "any_name.json", {"frames": frames})
    assert load_trajectory(path).positions[:, 0].tolist() == [3, 1, 2]


def test_nerfstudio_needs_a_camera(tmp_path):
    with pytest.raises(TrajectoryError, match="needs intrinsics and image_size"):
        save_trajectory(CameraTrajectory(torch.eye(4)[None]), tmp_path / "transforms.json")


def test_nerfstudio_cannot_hold_skew(tmp_path):
    trajectory = CameraTrajectory(torch.eye(4)[None], [[9, 1, 5], [0, 9, 5], [0, 0, 1]], (10, 10))
    with pytest.raises(TrajectoryError, match=r"skew 1\.0"):
        save_trajectory(trajectory, tmp_path / "transforms.json")


def test_tum_agrees_with_scipy(tmp_path):
    trajectory = random_trajectory(5, 6)
    table = np.loadtxt(save_trajectory(trajectory, tmp_path / "poses.txt", fps=10.0))
    np.testing.assert_allclose(table[:, 0], np.arange(6) / 10)
    np.testing.assert_allclose(table[:, 1:4], trajectory.positions)
    np.testing.assert_allclose(Rotation.from_quat(table[:, 4:]).as_matrix(), trajectory.rotations, atol=1e-12)


def test_tum_tolerates_comments_commas_and_rounding(tmp_path):
    path = write(
        tmp_path / "poses.txt", "# made by hand\n\n0, 1, 2, 3, 0, 0, 0.7071, 0.7071  # start\n0.5 1 2 4 0 0 0 1\n"
    )
    trajectory = load_trajectory(path)
    assert trajectory.positions.tolist() == [[1, 2, 3], [1, 2, 4]]
    np.testing.assert_allclose(trajectory.rotations[0], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no poses"),
        ("# only a comment\n", "holds no poses"),
        ("0 1 2 3 0 0 0\n", "line 1 must be"),
        ("0 0 0 0 0 0 0 1\n1 x 0 0 0 0 0 1\n", "line 2 must be"),
        ("0 0 0 0 0 0 0 0\n", "must have length 1, received 0"),
        ("0 0 0 0 0 0 0 nan\n", "must have length 1"),
        ("0 nan 0 0 0 0 0 1\n", "frame 0 holds NaN"),
        ("1 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", "timestamps must increase"),
    ],
)
def test_tum_mistakes(text, message, tmp_path):
    path = write(tmp_path / "poses.txt", text)
    with pytest.raises(TrajectoryError, match=message) as caught:
        load_trajectory(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"c2w": [1, 2', "line 1, column 14: is no valid JSON"),
        ("", "is no valid JSON"),
        ('{"c2w": [],}', "is no valid JSON"),
        ("3", "must hold a JSON object"),
        ({}, "key 'c2w' .* is missing"),
        ({"cw2": []}, r"unknown key 'cw2'.*Did you mean 'c2w'"),
        (identity_document(intrinsic=[]), r"unknown key 'intrinsic'.*Did you mean 'intrinsics'"),
        (identity_document(intrinsics=[[1, 2], [3, 4]]), "intrinsics must be 3x3"),
        (identity_document(intrinsics=[["a"]]), "intrinsics must be a full array of numbers"),
        (identity_document(image_size=[0, 3]), "two positive integers"),
        (identity_document(scene_depth="deep"), "scene_depth must be a positive number"),
        (identity_document(scene_depth=10**400), "scene_depth must be a positive number"),
        (identity_document(image_size=[10**400, 3]), "two positive integers"),
        (identity_document(c2w=[[[10**400]]]), "full array of numbers"),
        ({"c2w": [[1, 0], [0]]}, "full array of numbers"),
        ({"c2w": {"0": 1}}, "full array of numbers"),
        ({"c2w": []}, r"received shape \(0,\)"),
        ({"c2w": np.eye(4).tolist()}, r"must be \(T, 4, 4\)"),
        ({"c2w": (2 * np.eye(4)).reshape(1, 4, 4).tolist()}, "must end with the row"),
        ('{"c2w": [[[NaN,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]]}', "frame 0 holds NaN"),
        ({"frames": []}, "'frames' must be a list"),
        ({"frames": {"0": 1}}, "'frames' must be a list"),
        ({"frames": [{"file_path": "a.png"}]}, "frame 'a.png' has no 'transform_matrix'"),
        ({"frames": [{"transform_matrix": [[1]]}]}, "frame 0 must be 4x4"),
        (
            {"fl_x": "5", "w": 4, "h": 4, "frames": [{"transform_matrix": np.eye(4).tolist()}]},
            "'fl_x' must be a number",
        ),
        ({"fl_x": 5, "frames": [{"transform_matrix": np.eye(4).tolist()}]}, "needs 'cx' and 'cy', or 'w' and 'h'"),
    ],
)
def test_json_mistakes_are_named(document, message, tmp_path):
    path = write(tmp_path / "trajectory.json", document)
    with pytest.raises(TrajectoryError, match=message) as caught:
        load_trajectory(path)
    assert str(caught.value).count(str(path)) == 1


def test_a_bare_list_of_poses_is_a_trajectory(tmp_path):
    path = write(tmp_path / "poses.json", np.tile(np.eye(4), (3, 1, 1))[:, :3].tolist())
    assert torch.equal(load_trajectory(path).c2w, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps(identity_document()), encoding="utf-8-sig")
    assert load_trajectory(path).num_frames == 2


def test_binary_rubbish_is_no_json(tmp_path):
    path = tmp_path / "trajectory.json"
    path.write_bytes(b"\xff\xfe\x00\x80\x81")
    with pytest.raises(TrajectoryError, match="cannot be read as text"):
        load_trajectory(path)


@pytest.mark.parametrize("name", ["poses.npy", "poses.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"\x93NUMPY\x01\x00"])
def test_damaged_numpy_files(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match="damaged or no NumPy file"):
        load_trajectory(path)


def test_pickled_objects_are_never_loaded(tmp_path):
    path = tmp_path / "poses.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TrajectoryError, match="damaged or no NumPy file"):
        load_trajectory(path)


def test_poses_without_the_last_row_are_completed(tmp_path):
    trajectory = random_trajectory(2, 4)
    np.save(tmp_path / "poses.npy", trajectory.c2w[:, :3].numpy())
    assert torch.equal(load_trajectory(tmp_path / "poses.npy").c2w, trajectory.c2w)


def test_the_only_array_of_an_npz_is_taken(tmp_path):
    np.savez(tmp_path / "poses.npz", extrinsics=np.tile(np.eye(4), (3, 1, 1)))
    assert load_trajectory(tmp_path / "poses.npz").num_frames == 3


def test_an_npz_of_several_arrays_needs_c2w(tmp_path):
    np.savez(tmp_path / "poses.npz", a=np.eye(4), b=np.eye(4))
    with pytest.raises(TrajectoryError, match=r"needs an array 'c2w'.*\['a', 'b'\]"):
        load_trajectory(tmp_path / "poses.npz")


def test_another_number_of_poses_is_refused(tmp_path):
    path = save_trajectory(random_trajectory(0, 5), tmp_path / "trajectory.json")
    with pytest.raises(TrajectoryError, match="holds 5 poses, the clip has 17 frames"):
        load_trajectory(path, num_frames=17)


def test_missing_files_folders_and_unknown_suffixes(tmp_path):
    with pytest.raises(TrajectoryError, match="no such file"):
        load_trajectory(tmp_path / "none.json")
    with pytest.raises(TrajectoryError, match="is a folder"):
        load_trajectory(tmp_path)
    with pytest.raises(TrajectoryError, match=r"unknown kind of file '.jsn'.*Did you mean '.json'"):
        load_trajectory(write(tmp_path / "poses.jsn", "{}"))


def test_writing_to_an_unknown_suffix_or_place(tmp_path):
    trajectory = random_trajectory(0, 2)
    with pytest.raises(OutputError, match=r"cannot write a trajectory as '.yaml'"):
        save_trajectory(trajectory, tmp_path / "poses.yaml")
    blocker = write(tmp_path / "file", "")
    for name in NAMES:
        with pytest.raises(OutputError):
            save_trajectory(trajectory, blocker / name)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write(tmp_path / "poses.npy", "old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        save_trajectory(random_trajectory(0, 2), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


INTRINSICS = [[100.0, 0.0, 60.0], [0.0, 110.0, 30.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("document", [INTRINSICS, {"intrinsics": INTRINSICS}, identity_document(intrinsics=INTRINSICS)])
def test_intrinsics_without_a_size_are_taken_as_they_are(document, tmp_path):
    assert load_intrinsics(write(tmp_path / "camera.json", document), (64, 128)).tolist() == INTRINSICS


def test_intrinsics_are_scaled_to_the_clip(tmp_path):
    path = write(tmp_path / "camera.json", {"intrinsics": INTRINSICS, "image_size": [64, 128]})
    assert load_intrinsics(path, (32, 64)).tolist() == [[50, 0, 30], [0, 55, 15], [0, 0, 1]]


def test_intrinsics_come_from_nerfstudio_too(tmp_path):
    path = write(tmp_path / "transforms.json", {"fl_x": 100, "w": 128, "h": 64, "frames": []})
    assert load_intrinsics(path, (128, 256)).tolist() == [[200, 0, 128], [0, 200, 64], [0, 0, 1]]


def test_intrinsics_of_a_written_trajectory(tmp_path):
    trajectory = trajectory_from_prompt("pan left", 3, (240, 416))
    path = save_trajectory(trajectory, tmp_path / "trajectory.json")
    assert torch.equal(load_intrinsics(path, (240, 416)), trajectory.intrinsics)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"intrinsics": INTRINSICS, "image_size": [64, 64]}, "another aspect ratio"),
        ({"intrinsic": INTRINSICS}, r"holds no camera.*\['intrinsic'\]"),
        ([[1, 2], [3, 4]], "must be 3x3"),
        ({"intrinsics": [[0, 0, 1], [0, 5, 1], [0, 0, 1]]}, "positive focal"),
        ({"intrinsics": INTRINSICS, "image_size": 64}, "two positive integers"),
        ("[[1, 2", "is no valid JSON"),
    ],
)
def test_intrinsics_mistakes_are_named(document, message, tmp_path):
    path = write(tmp_path / "camera.json", document)
    with pytest.raises(TrajectoryError, match=message) as caught:
        load_intrinsics(path, (64, 128))
    assert str(caught.value).count(str(path)) == 1


def test_intrinsics_of_an_unknown_suffix(tmp_path):
    with pytest.raises(TrajectoryError, match=r"unknown kind of file '.yml'.*'.json'"):
        load_intrinsics(write(tmp_path / "camera.yml", "1"), (4, 4))


def test_a_numpy_file_with_a_damaged_header_is_an_error(tmp_path):
    path = tmp_path / "path.npy"
    np.save(path, np.tile(np.eye(4), (3, 1, 1)))
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))
    with pytest.raises(TrajectoryError, match="damaged or no NumPy file"):
        load_trajectory(path)
