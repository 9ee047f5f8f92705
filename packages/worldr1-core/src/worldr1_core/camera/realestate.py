"""RealEstate10K's pose text, which CameraCtrl and its successors read: normalised intrinsics and world-to-camera poses.

The first line is the address of the video (or any other title); every other line holds 19 numbers: time stamp in
microseconds, `fx fy cx cy` in units of image width and height, two numbers for the lens (zero), and the three rows of
a world-to-camera matrix in OpenCV axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from worldr1_core.camera.conventions import Convention, to_c2w
from worldr1_core.camera.distortion import refuse_distortion
from worldr1_core.camera.intrinsics import NORMALISED, StatedCamera, constant_camera, from_four
from worldr1_core.camera.path_file import PathFile
from worldr1_core.errors import TrajectoryError

NUM_COLUMNS = 19
_LARGEST_NORMALISED_FOCAL = 10.0


def read_rows(rows: Sequence[Sequence[float]]) -> PathFile:
    """Path and camera of the rows below the title.

    Raises:
        TrajectoryError: Poses are not rigid, or time runs backward.
    """
    table = torch.tensor([list(row) for row in rows], dtype=torch.float64)
    backward = (table[:, 0].diff() < 0).nonzero()
    if len(backward):
        before, after = table[int(backward[0]) : int(backward[0]) + 2, 0].tolist()
        raise TrajectoryError(f"time stamps must not decrease, received {before!r} then {after!r}.")
    poses = to_c2w(table[:, 7:].reshape(-1, 3, 4), Convention(world_to_camera=True), "w2c")
    return PathFile(poses, partial(_camera, table))


def _camera(table: Tensor) -> StatedCamera | None:
    lens = table[:, 5:7].abs().amax(dim=0).tolist()
    refuse_distortion({"k1": lens[0], "k2": lens[1]})
    normalised = bool((table[:, 1:3] < _LARGEST_NORMALISED_FOCAL).all())
    return constant_camera([from_four(row, NORMALISED if normalised else None) for row in table[:, 1:5].tolist()])
