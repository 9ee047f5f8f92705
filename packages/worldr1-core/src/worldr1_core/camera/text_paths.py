"""Camera paths in text files: which format one is follows from its lines, never from its name.

| numbers per line | format |
|---|---|
| 8, or more with a header | TUM, EuRoC, TUM-VI (`tum`) |
| 12 | KITTI odometry: rows of a 3 x 4 camera-to-world matrix, OpenCV axes |
| 19 | RealEstate10K, CameraCtrl (`realestate`) |
| 10 fields, the last one a name | COLMAP's `images.txt` (`colmap_text`) |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from worldr1_core.camera import colmap_text, realestate, tum
from worldr1_core.camera.conventions import Convention, convention_of, to_c2w
from worldr1_core.camera.intrinsics import StatedCamera, constant_camera, from_values
from worldr1_core.camera.path_file import PathFile
from worldr1_core.camera.text_lines import Row, read_text_file
from worldr1_core.errors import TrajectoryError

KITTI_COLUMNS = 12
_FORMATS = (
    f"8 numbers ('{tum.COLUMNS}': TUM; other orders, as EuRoC's, need a header that names the columns), "
    "12 (three rows of a camera-to-world matrix: KITTI), 19 (time, fx fy cx cy, 0 0, three rows of a world-to-camera "
    "matrix: RealEstate10K, CameraCtrl), or COLMAP's images.txt"
)
_AMBIGUOUS = {
    7: "position and quaternion without time stamp, or the other way round",
    13: "a time stamp or index and a matrix, camera-to-world or world-to-camera",
    16: "the rows of 4 x 4 matrices, camera-to-world or world-to-camera",
    17: "a time stamp and a 4 x 4 matrix, or EuRoC's ground truth without its header",
}


def read_path(path: Path) -> PathFile:
    """Path and camera of a text file.

    Raises:
        TrajectoryError: The file has none of the formats, or a line is malformed.
    """
    file = read_text_file(path)
    if colmap_text.is_images(file):
        return colmap_text.read_images(file, path)
    if colmap_text.is_cameras(file):
        raise TrajectoryError(
            "is COLMAP's list of cameras and holds no poses. Give images.txt; cameras.txt beside it is read too."
        )
    columns = tum.header_columns(file)
    rows = file.rows
    if rows and (_is_title(rows) or (columns is not None and rows[0].floats() is None)):
        rows = rows[1:]
    if not rows:
        raise TrajectoryError(f"holds no poses. Lines are {_FORMATS}.")
    width = len(rows[0].words)
    if columns is not None or (width == tum.NUM_COLUMNS and rows[0].floats() is not None):
        _check_width(rows)
        return PathFile(tum.read_poses(rows, columns, file.comments))
    if width == KITTI_COLUMNS:
        return PathFile(_read_kitti(rows, path, file.comments))
    if width == realestate.NUM_COLUMNS:
        return realestate.read_rows(_check_width(rows))
    guess = f" They may be {_AMBIGUOUS[width]}." if width in _AMBIGUOUS else ""
    raise TrajectoryError(
        f"line {rows[0].number} must be {_FORMATS}; received {width} fields: {rows[0].text[:120]!r}.{guess}"
        + (" Write the poses as JSON or npz under the name 'c2w' or 'w2c'." if guess else "")
    )


def read_intrinsics(path: Path) -> StatedCamera | None:
    """Camera of a text file: a matrix of 3 x 3 or 4 x 4 numbers, COLMAP's `cameras.txt`, or a path that states one.

    Raises:
        TrajectoryError: It holds none, or several.
    """
    file = read_text_file(path)
    if colmap_text.is_cameras(file):
        return constant_camera(list(colmap_text.read_cameras(file).values()))
    numbers = [row.floats() for row in file.rows]
    if len(numbers) in (3, 4) and all(row is not None and len(row) == len(numbers) for row in numbers):
        matrix = torch.tensor(numbers, dtype=torch.float64)
        if len(numbers) == 4 and not torch.equal(matrix[3], torch.tensor([0.0, 0, 0, 1]).double()):
            raise TrajectoryError(f"a 4 x 4 camera must end with the row 0 0 0 1, received {numbers[3]!r}.")
        return from_values(matrix[:3, :3])
    return read_path(path).camera()


def _is_title(rows: Sequence[Row]) -> bool:
    """Return True if the first line is the title of a RealEstate10K file, told by the number of columns below it."""
    widths = [len(row.words) for row in rows[:2]]
    return widths[1:] == [realestate.NUM_COLUMNS] and (widths[0] != widths[1] or rows[0].floats() is None)


def _check_width(rows: Sequence[Row]) -> list[list[float]]:
    width = len(rows[0].words)
    table = []
    for row in rows:
        numbers = row.floats()
        if numbers is None or len(numbers) != width:
            raise TrajectoryError(
                f"line {row.number} must be {width} numbers like line {rows[0].number}, received {row.text[:120]!r}."
            )
        table.append(numbers)
    return table


def _read_kitti(rows: Sequence[Row], path: Path, comments: Sequence[str]) -> torch.Tensor:
    """Poses of KITTI's odometry benchmark; a comment or the file's name may say that they are world-to-camera."""
    matrices = torch.tensor(_check_width(rows), dtype=torch.float64).reshape(-1, 3, 4)
    known = tum.stated_convention(comments) or convention_of(path.stem) or Convention()
    return to_c2w(matrices, known, "poses")
