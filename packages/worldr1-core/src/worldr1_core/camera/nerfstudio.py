"""`transforms.json` of nerfstudio, instant-ngp and Blender (NeRF synthetic): axes, frame order and camera fields.

All follow OpenGL: the camera looks along -z and its y axis points up. Multiplying a camera-to-world matrix by
diag(1, -1, -1, 1) from the right turns the camera's own axes into OpenCV's and leaves its place in the world alone.
nerfstudio states focal lengths in pixels (`fl_x`, with `w` and `h`), Blender the horizontal field of view in radians
(`camera_angle_x`), at the top level or in every frame.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.conventions import OPENGL_TO_OPENCV
from worldr1_core.camera.distortion import is_distortion_key, refuse_distortion
from worldr1_core.camera.documents import JsonObject
from worldr1_core.camera.intrinsics import NORMALISED, StatedCamera, constant_camera
from worldr1_core.camera.trajectory import CameraTrajectory, as_float64, check_image_size
from worldr1_core.errors import TrajectoryError
from worldr1_core.log import get_logger
from worldr1_core.natural_order import natural_key

log = get_logger(__name__)

FILE_NAME = "transforms.json"
_CAMERA_KEYS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y")
_TIME_KEYS = ("time", "timestamp")


def read_poses(document: JsonObject) -> Tensor:
    """Camera-to-world poses `(T, 4, 4)` in OpenCV axes, in the order of `ordered_frames`.

    Raises:
        TrajectoryError: A frame lacks its matrix, or the matrix is malformed.
    """
    frames = ordered_frames(document)
    return torch.stack([_matrix(index, frame) for index, frame in enumerate(frames)]) * OPENGL_TO_OPENCV


def ordered_frames(document: JsonObject) -> list[JsonObject]:
    """Frames in the order of time.

    Time stamps (`time` or `timestamp`, all different) decide. Without them the order of the file stands if the file
    names are in order, numbers counting as whole or as decimal ones; else frames are sorted by `file_path`, whole
    numbers counting as numbers, as COLMAP lists images in the order of registration.

    Raises:
        TrajectoryError: `frames` is no list of objects.
    """
    frames = document["frames"]
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise TrajectoryError(
            "'frames' must be a list of objects with 'file_path' and 'transform_matrix', at least one."
        )
    for key in _TIME_KEYS:
        times = [frame.get(key) for frame in frames]
        if all(_is_number(time) for time in times) and len(set(times)) == len(times):
            return sorted(frames, key=lambda frame: frame[key])
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names) or _in_order(names):
        return list(frames)
    return sorted(frames, key=lambda frame: natural_key(frame["file_path"]))


def states_camera(document: JsonObject) -> bool:
    """Return True if a focal length is stated at the top level or in a frame."""
    frames = document.get("frames")
    frames = [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []
    return any("fl_x" in fields or "camera_angle_x" in fields for fields in (document, *frames))


def read_camera(document: JsonObject) -> StatedCamera | None:
    """The camera of all frames; `None` if there is none, or, with a warning, if it changes from frame to frame.

    Missing `fl_y`, `cx` and `cy` mean square pixels and a centred camera.

    Raises:
        TrajectoryError: A field is no number, the principal point is unknown since the size is, or the lens distorts.
    """
    if not states_camera(document):
        refuse_distortion(document)
        return None
    shared = {key: value for key, value in document.items() if key in _CAMERA_KEYS or is_distortion_key(key)}
    frames = document.get("frames")
    frames = [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []
    own = [
        {**shared, **{key: value for key, value in frame.items() if key in _CAMERA_KEYS or is_distortion_key(key)}}
        for frame in frames
    ]
    if "fl_x" not in shared and not all(map(_is_complete, own)):
        for fields in own:
            refuse_distortion(fields)
        log.warning("intrinsics dropped: frames state no principal point and no image size; the path is read")
        return None
    return constant_camera([_camera(fields) for fields in (own or [shared])])


def to_document(trajectory: CameraTrajectory) -> JsonObject:
    """The document nerfstudio reads; file paths are `images/frame_00000.png`, ... as `write_video` names them.

    Raises:
        TrajectoryError: The trajectory has no intrinsics or image size, which nerfstudio needs, or a skewed camera.
    """
    if trajectory.intrinsics is None or trajectory.image_size is None:
        raise TrajectoryError(
            "transforms.json needs intrinsics and image_size, and the trajectory has none. "
            "Set them, e.g. to default_intrinsics(height, width), or write another form."
        )
    (focal_x, skew, centre_x), (_, focal_y, centre_y), _ = trajectory.intrinsics.tolist()
    if skew:
        raise TrajectoryError(
            f"transforms.json cannot hold a skewed camera, received skew {skew!r}. Write another form."
        )
    height, width = trajectory.image_size
    matrices = (trajectory.c2w * OPENGL_TO_OPENCV).tolist()
    return {
        "camera_model": "OPENCV",
        "fl_x": focal_x,
        "fl_y": focal_y,
        "cx": centre_x,
        "cy": centre_y,
        "w": width,
        "h": height,
        "frames": [
            {"file_path": f"images/frame_{index:05d}.png", "transform_matrix": matrix}
            for index, matrix in enumerate(matrices)
        ],
    }


def number(fields: JsonObject, key: str, default: float | None = None) -> float:
    """A numeric field.

    Raises:
        TrajectoryError: It is no number.
    """
    value: Any = fields.get(key, default)
    if not _is_number(value) or abs(value) > sys.float_info.max:
        raise TrajectoryError(f"{key!r} must be a number, received {value!r}.")
    return float(value)


def _is_complete(fields: JsonObject) -> bool:
    has_size, has_centre = "w" in fields and "h" in fields, "cx" in fields and "cy" in fields
    return "camera_angle_x" in fields or ("fl_x" in fields and (has_size or has_centre))


def _camera(fields: JsonObject) -> StatedCamera:
    refuse_distortion(fields)
    size = check_image_size([fields["h"], fields["w"]]) if "h" in fields and "w" in fields else None
    if "fl_x" not in fields:
        return _camera_of_angle(fields, size)
    if size is None and not ("cx" in fields and "cy" in fields):
        raise TrajectoryError("the camera needs 'cx' and 'cy', or 'w' and 'h' to place them at the centre.")
    focal_x = number(fields, "fl_x")
    focal_y = number(fields, "fl_y", focal_x)
    centre_x = number(fields, "cx", size[1] / 2 if size else None)
    centre_y = number(fields, "cy", size[0] / 2 if size else None)
    return StatedCamera(_matrix_of(focal_x, focal_y, centre_x, centre_y), size)


def _camera_of_angle(fields: JsonObject, size: tuple[int, int] | None) -> StatedCamera:
    """Blender's camera: a field of view, and square pixels unless the vertical one is stated too."""
    focal_x = 0.5 / _half_tangent(fields, "camera_angle_x")
    has_vertical = "camera_angle_y" in fields
    if size is None:
        focal_y = 0.5 / _half_tangent(fields, "camera_angle_y") if has_vertical else focal_x
        return StatedCamera(_matrix_of(focal_x, focal_y, 0.5, 0.5), NORMALISED, square_pixels=not has_vertical)
    height, width = size
    focal_y = 0.5 * height / _half_tangent(fields, "camera_angle_y") if has_vertical else focal_x * width
    centre_x, centre_y = number(fields, "cx", width / 2), number(fields, "cy", height / 2)
    return StatedCamera(_matrix_of(focal_x * width, focal_y, centre_x, centre_y), size)


def _half_tangent(fields: JsonObject, key: str) -> float:
    angle = number(fields, key)
    if not 0 < angle < math.pi:
        raise TrajectoryError(f"{key!r} must be a field of view in radians, in (0, pi), received {angle!r}.")
    return math.tan(angle / 2)


def _matrix_of(focal_x: float, focal_y: float, centre_x: float, centre_y: float) -> Tensor:
    return torch.tensor([[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]], dtype=torch.float64)


def _matrix(index: int, frame: JsonObject) -> Tensor:
    name = f"frame {frame.get('file_path', index)!r}"
    if "transform_matrix" not in frame:
        raise TrajectoryError(f"{name} has no 'transform_matrix', received {sorted(frame)!r}.")
    matrix = as_float64(frame["transform_matrix"], f"transform_matrix of {name}")
    if matrix.shape != (4, 4):
        raise TrajectoryError(f"transform_matrix of {name} must be 4x4, received shape {tuple(matrix.shape)!r}.")
    return matrix


def _in_order(names: Sequence[str]) -> bool:
    return any(_increases([key(name) for name in names]) for key in (natural_key, _decimal_key))


def _increases(keys: Sequence[Any]) -> bool:
    return all(before <= after for before, after in pairwise(keys))


def _decimal_key(name: str) -> list[tuple[int, float, str]]:
    """Like `natural_key`, but `0.75`, `-1` and `1e-3` are single numbers."""
    stem = name.rsplit("/", 1)[-1]
    stem = stem.rsplit(".", 1)[0] if stem.lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".exr", ".tif")) else stem
    parts = re.split(r"((?:(?<![0-9a-z])[-+])?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)", stem.casefold())
    return [(1, 0.0, part) if index % 2 == 0 else (0, float(part), "") for index, part in enumerate(parts) if part]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
