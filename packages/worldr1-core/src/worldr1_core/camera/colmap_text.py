"""COLMAP's text model: `images.txt` for the path, `cameras.txt` beside it for the intrinsics.

An image has the line `IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME` (world-to-camera, OpenCV axes, scalar first) and a
line of feature points, which may be empty. Images stand in the order of registration there; the path takes the natural
order of their names. Cameras are `CAMERA_ID MODEL WIDTH HEIGHT PARAMS...`, in pixels, pixel centres at +0.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch

from worldr1_core.camera.conventions import Convention, to_c2w
from worldr1_core.camera.distortion import refuse_distortion
from worldr1_core.camera.geometry import matrix_from_quaternion, pose
from worldr1_core.camera.intrinsics import StatedCamera, constant_camera, from_four
from worldr1_core.camera.path_file import PathFile
from worldr1_core.camera.text_lines import Row, TextFile, read_text_file
from worldr1_core.errors import TrajectoryError
from worldr1_core.natural_order import natural_key

CAMERAS_FILE = "cameras.txt"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_IMAGE = re.compile(rf"(\d+)((?:\s+{_NUMBER}){{7}})\s+(\d+)\s+(\S.*)")
_CAMERA = re.compile(r"(\d+)\s+([A-Z][A-Z_]+)\s+(\d+)\s+(\d+)((?:\s+\S+)+)")

# Names of the parameters after the focal lengths and the principal point; one focal length where the name is `f`.
_MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
}


def is_images(file: TextFile) -> bool:
    """Return True if a text file has the lines of `images.txt`."""
    return any("IMAGE_ID" in comment and "QW" in comment for comment in file.comments) or any(
        _image(row) for row in file.rows
    )


def is_cameras(file: TextFile) -> bool:
    """Return True if a text file has the lines of `cameras.txt`."""
    return bool(file.rows) and all(_CAMERA.fullmatch(row.text) for row in file.rows)


def read_images(file: TextFile, path: Path) -> PathFile:
    """Path of all images, and the camera that they share.

    Raises:
        TrajectoryError: There is no image, a line is malformed, or two images have one name.
    """
    images = []
    for row in file.rows:
        match = _image(row)
        if match is not None:
            images.append((match[4].strip(), [float(word) for word in match[2].split()], int(match[3])))
        elif row.floats() is None:
            raise TrajectoryError(
                f"line {row.number} must be 'IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME' or feature points, received "
                f"{row.text[:120]!r}."
            )
    if not images:
        raise TrajectoryError(
            "holds no images. Each is 'IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME', NAME no number."
        )
    images.sort(key=lambda image: natural_key(image[0]))
    names = [name for name, _, _ in images]
    repeated = [name for name, after in pairwise(names) if name == after]
    if repeated:
        raise TrajectoryError(f"holds image {repeated[0]!r} twice. A path has one pose per frame.")
    table = torch.tensor([numbers for _, numbers, _ in images], dtype=torch.float64)
    lengths = table[:, :4].norm(dim=1)
    if bool(((lengths - 1).abs() > 0.01).any()):
        raise TrajectoryError(f"quaternions (QW QX QY QZ) must have length 1, received {lengths.tolist()!r}.")
    w2c = pose(matrix_from_quaternion(table[:, [1, 2, 3, 0]]), table[:, 4:])
    used = [camera for _, _, camera in images]
    return PathFile(to_c2w(w2c, Convention(world_to_camera=True), "w2c"), partial(_camera_beside, path, used))


def read_cameras(file: TextFile) -> dict[int, StatedCamera]:
    """Cameras by `CAMERA_ID`.

    Raises:
        TrajectoryError: A line is malformed, or a camera is no pinhole.
    """
    cameras = {}
    for row in file.rows:
        match = _CAMERA.fullmatch(row.text)
        if match is None:
            raise TrajectoryError(f"line {row.number} must be 'CAMERA_ID MODEL WIDTH HEIGHT PARAMS', got {row.text!r}.")
        size = (int(match[4]), int(match[3]))
        cameras[int(match[1])] = _camera(f"camera {match[1]} ({match[2]})", match[2], size, match[5].split())
    return cameras


def _image(row: Row) -> re.Match[str] | None:
    # Lines of feature points are numbers alone, so that a name that is a number cannot be told from them.
    match = _IMAGE.fullmatch(row.text)
    return match if match is not None and row.floats() is None else None


def _camera(name: str, model: str, size: tuple[int, int], words: Sequence[str]) -> StatedCamera:
    if model not in _MODELS:
        refuse_distortion({"camera_model": model}, name)
        raise TrajectoryError(
            f"{name}: model {model!r} is no pinhole. Allowed: {list(_MODELS)}, distortion zero. Undistort the frames "
            "('colmap image_undistorter') and give the cameras that it writes."
        )
    names = _MODELS[model].split()
    if len(names) != len(words):
        raise TrajectoryError(f"{name} must have the parameters {_MODELS[model]!r}, received {list(words)!r}.")
    values = {key: float(word) for key, word in zip(names, words, strict=True)}
    refuse_distortion({key: value for key, value in values.items() if key[0] in "kp"}, name)
    focal_x = values.get("f", values.get("fx", 0.0))
    return from_four((focal_x, values.get("fy", focal_x), values["cx"], values["cy"]), size)


def _camera_beside(path: Path, used: Sequence[int]) -> StatedCamera | None:
    beside = path.with_name(CAMERAS_FILE)
    if not beside.exists():
        return None
    try:
        cameras = read_cameras_of(read_text_file(beside), used)
    except (TrajectoryError, ValueError) as error:
        raise TrajectoryError(f"{CAMERAS_FILE} beside it: {error}") from error
    return constant_camera(cameras)


def read_cameras_of(file: TextFile, used: Sequence[int]) -> list[StatedCamera]:
    """The cameras of images, in their order.

    Raises:
        TrajectoryError: `cameras.txt` lacks one.
    """
    wanted = set(used)
    lines = [row for row in file.rows if row.words[0] in {str(camera) for camera in wanted}]
    cameras = read_cameras(TextFile(lines, file.comments))
    missing = sorted(wanted - set(cameras))
    if missing:
        raise TrajectoryError(f"lacks the cameras {missing!r} that the images name.")
    return [cameras[camera] for camera in used]
