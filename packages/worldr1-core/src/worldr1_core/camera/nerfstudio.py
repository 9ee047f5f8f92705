"""nerfstudio's `transforms.json`: its axes, its frame order and its camera fields.

nerfstudio follows OpenGL: the camera looks along -z and its y axis points up. Multiplying a camera-to-world matrix by
diag(1, -1, -1, 1) from the right turns the camera's own axes into OpenCV's and leaves its place in the world alone.
Lens distortion (`k1`, `p1`, ...) is not read: every camera here is a pinhole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.documents import JsonObject
from worldr1_core.camera.trajectory import CameraTrajectory, as_float64, check_image_size, check_intrinsics
from worldr1_core.errors import TrajectoryError
from worldr1_core.natural_order import natural_key

FILE_NAME = "transforms.json"
_FLIP = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)


def from_document(document: JsonObject) -> CameraTrajectory:
    """Poses in OpenCV axes, ordered by `file_path` (numbers count as numbers); frames without one keep their order.

    Raises:
        TrajectoryError: A frame lacks its matrix, the matrix is malformed, or cameras differ from frame to frame.
    """
    frames = document["frames"]
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise TrajectoryError(
            "'frames' must be a list of objects with 'file_path' and 'transform_matrix', at least one."
        )
    if all(isinstance(frame.get("file_path"), str) for frame in frames):
        frames = sorted(frames, key=lambda frame: natural_key(frame["file_path"]))
    c2w = torch.stack([_matrix(index, frame) for index, frame in enumerate(frames)]) * _FLIP
    if not holds_camera(document):
        return CameraTrajectory(c2w)
    intrinsics, size = camera(document)
    return CameraTrajectory(c2w, intrinsics, size)


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
    matrices = (trajectory.c2w * _FLIP).tolist()
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


def holds_camera(document: JsonObject) -> bool:
    """Whether the document states a focal length for all frames."""
    return "fl_x" in document


def camera(document: JsonObject) -> tuple[Tensor, tuple[int, int] | None]:
    """Intrinsics `(3, 3)` and image size `(H, W)`; missing `fl_y`, `cx`, `cy` mean square pixels and a centred camera.

    Raises:
        TrajectoryError: A field is no number, or the principal point is unknown since the size is.
    """
    size = check_image_size([document["h"], document["w"]]) if "h" in document and "w" in document else None
    if size is None and not ("cx" in document and "cy" in document):
        raise TrajectoryError("the camera needs 'cx' and 'cy', or 'w' and 'h' to place them at the centre.")
    focal_x = _number(document, "fl_x")
    focal_y = _number(document, "fl_y", focal_x)
    centre_x = _number(document, "cx", size[1] / 2 if size else None)
    centre_y = _number(document, "cy", size[0] / 2 if size else None)
    return check_intrinsics([[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]]), size


def _matrix(index: int, frame: JsonObject) -> Tensor:
    name = f"frame {frame.get('file_path', index)!r}"
    if "transform_matrix" not in frame:
        raise TrajectoryError(f"{name} has no 'transform_matrix', received {sorted(frame)!r}.")
    if "fl_x" in frame:
        raise TrajectoryError(
            f"{name} has a camera of its own ('fl_x'). A clip has one camera: give it at the top level."
        )
    matrix = as_float64(frame["transform_matrix"], f"transform_matrix of {name}")
    if matrix.shape != (4, 4):
        raise TrajectoryError(f"transform_matrix of {name} must be 4x4, received shape {tuple(matrix.shape)!r}.")
    return matrix


def _number(document: JsonObject, key: str, default: float | None = None) -> float:
    value: Any = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TrajectoryError(f"{key!r} must be a number, received {value!r}.")
    return float(value)
