"""TUM trajectories and their relatives: a time stamp, a position and a quaternion per line.

TUM's order is `timestamp tx ty tz qx qy qz qw`, separated by white space, camera-to-world, OpenCV axes. EuRoC and
TUM-VI write commas, nanoseconds and the scalar first, and say so in a header that names the columns; the header
decides, and further columns (velocities, biases) are passed over. EuRoC's and TUM-VI's poses are those of the body (the
IMU), not of a camera: multiply them from the right by the calibrated camera-to-body transform first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from worldr1_core.camera.conventions import Convention, convention_of, to_c2w
from worldr1_core.camera.geometry import matrix_from_quaternion, pose, quaternion_from_matrix
from worldr1_core.camera.text_lines import Row, TextFile
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError
from worldr1_core.log import get_logger

log = get_logger(__name__)

COLUMNS = "timestamp tx ty tz qx qy qz qw"
NUM_COLUMNS = 8
_ROLES = ("time", "tx", "ty", "tz", "qx", "qy", "qz", "qw")
_POSITIONS = frozenset({"", "p", "t", "pos", "position", "trans", "translation", "loc", "location", "xyz"})
_ROTATIONS = frozenset({"rot", "rotation", "ori", "orient", "orientation"})


def header_columns(file: TextFile) -> list[int] | None:
    """Column of time, position `x y z` and quaternion `x y z w`, as the file's header orders them.

    The header is a comment, or the first row if that is not numeric. `None` if there is none.

    Raises:
        TrajectoryError: Two headers differ, or a header names only a part of the columns.
    """
    first = file.rows[0] if file.rows else None
    headers = [*file.comments, first.text] if first is not None and first.floats() is None else file.comments
    found = {}
    for header in headers:
        roles = _roles(header)
        if roles.count("qw") or "scalar first" in header.lower() or re.search(r"\bw[\s,]*x[\s,]*y[\s,]*z\b", header):
            width = next((len(row.words) for row in file.rows if row.floats() is not None), 0)
            found[header] = _columns(header, roles, width)
    if len({tuple(columns) for columns in found.values()}) > 1:
        raise TrajectoryError(f"has headers that order the columns differently: {list(found)!r}. Leave one.")
    return next(iter(found.values()), None)


def read_poses(rows: Sequence[Row], columns: Sequence[int] | None, comments: Sequence[str] = ()) -> Tensor:
    """Camera-to-world poses `(T, 4, 4)`.

    Args:
        rows: Lines of numbers.
        columns: Where the eight fields stand, as `header_columns` returns them; TUM's order if `None`.
        comments: Comment lines; one that says world-to-camera (`w2c`) inverts the poses.

    Raises:
        TrajectoryError: A line is malformed, a quaternion has not length 1, or time does not increase.
    """
    columns = range(NUM_COLUMNS) if columns is None else columns
    table = torch.tensor([_fields(row, columns) for row in rows], dtype=torch.float64)
    backward = (table[:, 0].diff() <= 0).nonzero()
    if len(backward):
        frame = int(backward[0])
        before, after = table[frame : frame + 2, 0].tolist()
        raise TrajectoryError(f"timestamps must increase, received {before!r} then {after!r}.")
    poses = pose(matrix_from_quaternion(table[:, 4:]), table[:, 1:4])
    return to_c2w(poses, stated_convention(comments) or Convention(), "poses")


def stated_convention(comments: Sequence[str]) -> Convention | None:
    """The convention that comment lines state (`world-to-camera`, `w2c`, `camera to world`), or `None`.

    Raises:
        TrajectoryError: They state both directions.
    """
    known = {convention for comment in comments if (convention := convention_of(comment, customary=False)) is not None}
    if len({convention.world_to_camera for convention in known}) > 1:
        raise TrajectoryError(f"has comments that state both pose directions: {list(comments)!r}. Leave one.")
    return next(iter(known), None)


def to_text(trajectory: CameraTrajectory, fps: float) -> str:
    """The file that TUM's tools read, with a header that names the columns."""
    table = torch.cat([trajectory.positions, quaternion_from_matrix(trajectory.rotations)], dim=1).tolist()
    lines = [" ".join(repr(value) for value in (index / fps, *row)) for index, row in enumerate(table)]
    return "\n".join([f"# {COLUMNS}", *lines]) + "\n"


def _fields(row: Row, columns: Sequence[int]) -> list[float]:
    numbers = row.floats()
    if numbers is None or len(numbers) <= max(columns):
        raise TrajectoryError(f"line {row.number} must be {COLUMNS!r}, received {row.text!r}.")
    values = [numbers[column] for column in columns]
    norm = float(torch.tensor(values[4:], dtype=torch.float64).norm())
    if not abs(norm - 1) < 0.01:
        raise TrajectoryError(
            f"line {row.number}: the quaternion {values[4:]!r} (x, y, z, w) must have length 1, received {norm:.4g}."
        )
    return values


def _columns(header: str, roles: list[str | None], width: int) -> list[int]:
    wrong = [role for role in _ROLES[1:] if roles.count(role) != 1] + ["time"] * ("time" not in roles)
    unnamed = width - len(roles) if "," in header or ";" in header else max(width - len(roles), 0)
    if unnamed and not wrong:
        raise TrajectoryError(f"the header {header!r} names {len(roles)} columns, the rows have {width}.")
    if wrong:
        raise TrajectoryError(
            f"the header {header!r} must name every column once; missing or repeated are {wrong!r}. Write the order of "
            f"the columns as e.g. '# {COLUMNS}' or '#timestamp, p_x, p_y, p_z, q_w, q_x, q_y, q_z'."
        )
    if re.search(r"\bp_RS_R_x\b", header):
        log.warning(
            "poses of a body frame (p_RS_R) taken for the camera's; multiply them from the right by the "
            "camera-to-body transform (T_BS) first, unless both are mounted alike"
        )
    return [roles.index(role) for role in _ROLES]


def _roles(header: str) -> list[str | None]:
    """Return the role of each column of a header; words before the first known column (`format:`) are skipped."""
    plain = re.sub(r"\[[^\]]*\]|\([^)]*\)", " ", header.strip().lstrip("#"))
    names = re.split(r"[,;]", plain) if re.search(r"[,;]", plain) else plain.split()
    roles = [_role(name.strip().strip("'\"").lower()) for name in names]
    known = [index for index, role in enumerate(roles) if role is not None]
    return roles[known[0] :] if known and not re.search(r"[,;]", plain) else roles


def _role(name: str) -> str | None:
    if re.match(r"[#%]?\s*(time|stamp|sec)|t$|frame|index$|idx$|id$", name):
        return "time"
    if not re.search(r"[xyzw]$", name):
        return None
    words = set(re.split(r"[^a-z0-9]+", name[:-1])) - {""} or {""}
    if any(word.startswith("q") for word in words) or words & _ROTATIONS:
        return "q" + name[-1]
    if words & _POSITIONS and name[-1] != "w":
        return "t" + name[-1]
    return None
