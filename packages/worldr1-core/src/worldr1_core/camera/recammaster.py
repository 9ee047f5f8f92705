"""ReCamMaster's `camera_extrinsics.json`: Unreal Engine poses of several cameras, written as strings.

The file is `{"frame0": {"cam01": "[..] [..] [..] [..] ", ...}, "frame1": ...}`. Each string holds the four rows of a
camera-to-world matrix for row vectors: the translation is the last row, in centimetres. Camera and world have Unreal's
axes (x forward, y right, z up; left-handed). ReCamMaster's own training script transposes the matrices, takes their
columns in the order y, z, x, negates the second, and divides translations by 100: OpenCV's camera axes and metres.
Here the world is changed in the same way as the camera, so that the poses are rotations and not reflections.
The file states no intrinsics; those of the MultiCamVideo data are in the name of its folder (`f24_aperture5`).
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.documents import JsonObject
from worldr1_core.errors import TrajectoryError

CENTIMETRES = 100.0
_FRAME = re.compile(r"frame_?(\d+)")
# Rows of (right, down, forward) in Unreal's (forward, right, up).
_FROM_UNREAL = torch.tensor([[0.0, 1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)


def is_recammaster(document: JsonObject) -> bool:
    """Return True if a JSON object maps frames to cameras to strings."""
    return bool(document) and all(
        _FRAME.fullmatch(key) and isinstance(value, dict) and value for key, value in document.items()
    )


def read_poses(document: JsonObject, camera: str | None = None) -> Tensor:
    """Camera-to-world poses `(T, 4, 4)`, OpenCV axes, metres, ordered by frame number.

    Args:
        document: Contents of the file.
        camera: Name of the camera, e.g. `cam05`; may be left out if there is only one.

    Raises:
        TrajectoryError: The camera is not in every frame, several qualify, or a matrix is malformed.
    """
    frames = sorted(((int(_FRAME.fullmatch(key)[1]), value) for key, value in document.items()), key=lambda f: f[0])  # type: ignore[index]
    steps = {after[0] - before[0] for before, after in pairwise(frames)}
    if len(steps) > 1:
        raise TrajectoryError(f"frames must be numbered evenly, received {[number for number, _ in frames]!r}.")
    cameras = list(frames[0][1])
    if camera is None and len(cameras) != 1:
        raise TrajectoryError(
            f"holds the paths of {len(cameras)} cameras. Append '#NAME' to the file name to choose one of {cameras!r}, "
            f"e.g. '#{cameras[0]}'."
        )
    name = cameras[0] if camera is None else camera
    rows = []
    for number, poses in frames:
        if name not in poses:
            raise TrajectoryError(f"frame{number} holds no camera {name!r}. Allowed after '#': {list(poses)!r}.")
        rows.append(_matrix(poses[name], f"{name!r} of frame{number}"))
    for_columns = torch.stack(rows).transpose(1, 2)
    for_columns[:, :3, 3] /= CENTIMETRES
    return _FROM_UNREAL @ for_columns @ _FROM_UNREAL.T


def _matrix(text: Any, where: str) -> Tensor:
    rows = re.findall(r"\[([^\[\]]*)\]", text) if isinstance(text, str) else []
    try:
        matrix = [[float(number) for number in row.replace(",", " ").split()] for row in rows]
    except ValueError:
        matrix = []
    if [len(row) for row in matrix] == [3, 3, 3, 3]:
        # Some files leave the last column out.
        matrix = [[*row, float(index == 3)] for index, row in enumerate(matrix)]
    if [len(row) for row in matrix] != [4, 4, 4, 4] or [row[3] for row in matrix] != [0, 0, 0, 1]:
        raise TrajectoryError(
            f"{where} must be the four rows '[a b c 0] [a b c 0] [a b c 0] [x y z 1]' of a matrix for row vectors "
            f"(translation in the last row, centimetres, Unreal's axes), received {text!r}."
        )
    return torch.tensor(matrix, dtype=torch.float64)
