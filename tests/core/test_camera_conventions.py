"""Arrays of poses are read in the direction that their name states; a name that states none is refused."""

import doctest
import json

import numpy as np
import pytest
import torch

from core.camera_truth import OPENGL, inverse, truth, write_json
from worldr1_core.camera import conventions, load_trajectory
from worldr1_core.errors import TrajectoryError

WORLD_TO_CAMERA = [
    "w2c", "w2cs", "w2c_mats", "pred_w2c", "extrinsics", "extrinsic", "Extrinsics", "viewmatrix", "viewmats", "viewmat",
    "view_matrix", "world_to_camera", "world2cam", "worldToCamera", "cam_from_world", "world_to_cam", "T_cw", "Tcw",
    "world_view", "poses_w2c", "world2view",
]  # fmt: skip
CAMERA_TO_WORLD = [
    "c2w", "c2ws", "cam_c2w", "camera_to_world", "cam2world", "camtoworlds", "camToWorld", "poses", "cam_poses", "T_wc",
    "world_from_cam", "pred_c2w", "extrinsics_c2w", "world_T_cam",
]  # fmt: skip


@pytest.mark.parametrize("name", WORLD_TO_CAMERA)
def test_world_to_camera_names_are_inverted(name, tmp_path):
    np.savez(tmp_path / "path.npz", **{name: inverse(truth())})
    np.testing.assert_allclose(load_trajectory(tmp_path / "path.npz").c2w, truth(), atol=1e-12)


@pytest.mark.parametrize("name", CAMERA_TO_WORLD)
def test_camera_to_world_names_are_read_as_they_are(name, tmp_path):
    np.savez(tmp_path / "path.npz", **{name: truth()})
    np.testing.assert_allclose(load_trajectory(tmp_path / "path.npz").c2w, truth(), atol=1e-12)


@pytest.mark.parametrize("name", ["w2c", "extrinsics", "world_to_camera"])
@pytest.mark.parametrize("rows", [3, 4])
def test_json_keys_state_the_direction_too(name, rows, tmp_path):
    path = write_json(tmp_path / "path.json", {name: inverse(truth())[:, :rows].tolist()})
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(), atol=1e-12)


@pytest.mark.parametrize("name", ["c2w_opengl", "blender_c2w"])
def test_opengl_in_the_name_flips_the_axes(name, tmp_path):
    np.savez(tmp_path / "path.npz", **{name: truth() @ OPENGL})
    np.testing.assert_allclose(load_trajectory(tmp_path / "path.npz").c2w, truth(), atol=1e-12)


def test_world_to_camera_with_opengl_axes(tmp_path):
    np.savez(tmp_path / "path.npz", w2c_opengl=inverse(truth() @ OPENGL))
    np.testing.assert_allclose(load_trajectory(tmp_path / "path.npz").c2w, truth(), atol=1e-12)


@pytest.mark.parametrize("name", ["pose", "matrix", "matrices", "transforms", "data", "Rt", "anything"])
def test_a_name_without_a_convention_is_an_error_that_says_how_to_state_it(name, tmp_path):
    np.savez(tmp_path / "path.npz", **{name: truth()})
    with pytest.raises(TrajectoryError, match=r"no name states a convention. Rename .* to 'c2w' .* to 'w2c'") as caught:
        load_trajectory(tmp_path / "path.npz")
    assert repr(name) in str(caught.value)


def test_an_ambiguous_json_key_is_the_same_error(tmp_path):
    path = write_json(tmp_path / "path.json", {"pose": truth().tolist()})
    with pytest.raises(TrajectoryError, match="no name states a convention"):
        load_trajectory(path)


def test_unsupported_axes_are_named(tmp_path):
    np.savez(tmp_path / "path.npz", c2w_pytorch3d=truth())
    with pytest.raises(TrajectoryError, match=r"\['pytorch3d'\].*Allowed: OpenCV"):
        load_trajectory(tmp_path / "path.npz")


@pytest.mark.parametrize(("stem", "stored"), [("clip_w2c", inverse), ("extrinsics", inverse), ("path", np.asarray)])
@pytest.mark.parametrize("suffix", ["npy", "npz", "json"])
def test_the_name_of_the_file_stands_for_that_of_a_nameless_array(stem, stored, suffix, tmp_path):
    path = tmp_path / f"{stem}.{suffix}"
    if suffix == "json":
        write_json(path, stored(truth()).tolist())
    else:
        (np.save if suffix == "npy" else np.savez)(path, stored(truth()))
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(), atol=1e-12)


def test_both_directions_of_one_path_are_fine(tmp_path):
    np.savez(tmp_path / "path.npz", c2w=truth(), w2c=inverse(truth()))
    np.testing.assert_allclose(load_trajectory(tmp_path / "path.npz").c2w, truth(), atol=1e-12)


def test_directions_that_contradict_each_other(tmp_path):
    np.savez(tmp_path / "path.npz", c2w=truth(), w2c=truth())
    with pytest.raises(TrajectoryError, match="'c2w' and 'w2c' hold different camera paths"):
        load_trajectory(tmp_path / "path.npz")


def test_one_of_several_paths_is_chosen_by_name(tmp_path):
    np.savez(tmp_path / "path.npz", source_w2c=inverse(truth(seed=1)), target_w2c=inverse(truth(seed=2)))
    with pytest.raises(TrajectoryError, match=r"Append '#NAME' .* \['source_w2c', 'target_w2c'\]"):
        load_trajectory(tmp_path / "path.npz")
    chosen = load_trajectory(f"{tmp_path / 'path.npz'}#target_w2c")
    np.testing.assert_allclose(chosen.c2w, truth(seed=2), atol=1e-12)


def test_a_choice_that_the_file_does_not_hold(tmp_path):
    np.savez(tmp_path / "path.npz", c2w=truth())
    with pytest.raises(TrajectoryError, match=r"holds no 'w2c'. Allowed after '#': \['c2w'\]"):
        load_trajectory(f"{tmp_path / 'path.npz'}#w2c")


def test_a_hash_in_the_name_of_a_file_is_no_choice(tmp_path):
    np.savez(tmp_path / "take#2.npz", c2w=truth())
    assert load_trajectory(tmp_path / "take#2.npz").num_frames == 5


def test_world_to_camera_for_row_vectors_is_refused(tmp_path):
    np.savez(tmp_path / "path.npz", world_view_transform=inverse(truth()).transpose(0, 2, 1))
    with pytest.raises(TrajectoryError, match=r"world_view_transform of frame 0 must end with the row .* transpose"):
        load_trajectory(tmp_path / "path.npz")


def test_scaled_world_to_camera_is_refused(tmp_path):
    w2c = inverse(truth())
    w2c[:, :3, :3] *= 1.1
    np.savez(tmp_path / "path.npz", w2c=w2c)
    with pytest.raises(TrajectoryError, match="w2c of frame 0 is not rigid"):
        load_trajectory(tmp_path / "path.npz")


def test_intrinsics_beside_world_to_camera(tmp_path):
    camera = [[100.0, 0, 64], [0, 100, 32], [0, 0, 1]]
    document = {"w2c": inverse(truth()).tolist(), "intrinsics": camera, "image_size": [64, 128]}
    loaded = load_trajectory(write_json(tmp_path / "path.json", document), image_size=(128, 256))
    assert loaded.intrinsics.tolist() == [[200, 0, 128], [0, 200, 64], [0, 0, 1]]


def test_the_camera_stays_unread_where_only_the_path_is_needed(tmp_path):
    document = {"c2w": truth().tolist(), "intrinsics": np.eye(3).tolist(), "k1": 0.3}
    path = write_json(tmp_path / "path.json", document)
    with pytest.raises(TrajectoryError, match="lens distortion"):
        load_trajectory(path)
    loaded = load_trajectory(path, with_camera=False)
    assert loaded.intrinsics is None
    assert torch.allclose(loaded.c2w, torch.from_numpy(truth()), atol=1e-12)


def test_a_byte_order_mark_before_json(tmp_path):
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"w2c": inverse(truth()).tolist()}), encoding="utf-8-sig")
    np.testing.assert_allclose(load_trajectory(path).c2w, truth(), atol=1e-12)


def test_examples_in_docstrings():
    result = doctest.testmod(conventions)
    assert (result.attempted, result.failed) == (3, 0)
