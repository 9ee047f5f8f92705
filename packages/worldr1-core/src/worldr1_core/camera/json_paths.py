"""Camera paths and intrinsics in JSON files: ours, nerfstudio's and Blender's `transforms.json`, ReCamMaster's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from worldr1_core.camera import nerfstudio, recammaster
from worldr1_core.camera.conventions import choose_poses, convention_of, is_ambiguous, unnamed_poses
from worldr1_core.camera.distortion import is_distortion_key, refuse_distortion
from worldr1_core.camera.documents import JsonObject, read_json
from worldr1_core.camera.intrinsics import StatedCamera, from_four, from_values, image_size_of
from worldr1_core.camera.path_file import PathFile
from worldr1_core.errors import TrajectoryError, suggest

OPTIONAL_KEYS = ("intrinsics", "image_size", "scene_depth")
_FOUR = ("fx", "fy", "cx", "cy")


def read_path(path: Path, selected: str | None = None) -> PathFile:
    """Path and camera of a JSON file; the keys decide the format.

    Args:
        path: The file.
        selected: Name of the array or of ReCamMaster's camera to take where there are several.

    Raises:
        TrajectoryError: The file is no JSON, or its keys are those of no format.
    """
    document = read_json(path)
    if isinstance(document, list):
        return PathFile(unnamed_poses(document, path.stem))
    if recammaster.is_recammaster(document):
        return PathFile(recammaster.read_poses(document, selected))
    if "frames" in document:
        return PathFile(nerfstudio.read_poses(document), partial(nerfstudio.read_camera, document))
    poses = _pose_arrays(document)
    c2w = choose_poses(poses, selected)
    return PathFile(c2w, partial(_camera, document), document.get("scene_depth"))


def read_intrinsics(path: Path) -> StatedCamera | None:
    """Camera of a JSON file: a bare 3 x 3 list, `intrinsics`, `fx fy cx cy`, or nerfstudio's fields.

    Raises:
        TrajectoryError: It holds none.
    """
    document = read_json(path)
    if isinstance(document, list):
        return from_values(document)
    if "intrinsics" in document or all(key in document for key in _FOUR):
        return _camera(document)
    camera = nerfstudio.read_camera(document)
    if camera is None and not nerfstudio.states_camera(document):
        raise TrajectoryError(
            "holds no camera: needs 'intrinsics' (3x3, pixels), 'fx', 'fy', 'cx', 'cy', or nerfstudio's 'fl_x', "
            f"received {sorted(document)!r}."
        )
    return camera


def _pose_arrays(document: JsonObject) -> JsonObject:
    allowed = ("c2w", "w2c", *OPTIONAL_KEYS)
    poses = {}
    for key, value in document.items():
        if key in OPTIONAL_KEYS or is_distortion_key(key):
            continue
        if convention_of(key) is None and not is_ambiguous(key):
            raise TrajectoryError(
                f"unknown key {key!r}. Allowed: {list(allowed)}.{suggest(key, allowed[:1] + OPTIONAL_KEYS)}"
            )
        poses[key] = value
    if not poses:
        raise TrajectoryError(
            f"key 'c2w' (T x 4 x 4, camera-to-world) or 'w2c' is missing, received {sorted(document)!r}."
        )
    return poses


def _camera(document: JsonObject) -> StatedCamera | None:
    refuse_distortion(document)
    size = image_size_of(document)
    if document.get("intrinsics") is not None:
        return from_values(document["intrinsics"], size)
    if not all(key in document for key in _FOUR):
        return None
    return from_four([nerfstudio.number(document, key) for key in _FOUR], size)
