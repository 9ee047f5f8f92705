"""Display matrices: rotation and mirroring with which a stored picture is shown.

The matrix maps a stored pixel (column p, row q) to a place on the screen: x = a p + c q, y = b p + d q, up to a shift
and a scale (ISO/IEC 14496-12, section 6.2.2; FFmpeg's libavutil/display.h). Eight matrices keep a picture a rectangle
of whole pixels: four turns, each with and without a mirror.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

_TOLERANCE = math.sin(math.radians(1))  # players show a picture that leans by less than a degree upright

Orientation = tuple[bool, bool, bool]
"""Transpose rows and columns; then mirror the columns; then mirror the rows."""

UPRIGHT: Orientation = (False, False, False)


def frame_orientation(frame: Any) -> Orientation:
    """Read the orientation of a decoded PyAV frame.

    Raises:
        ValueError: The matrix leans the picture by an angle that is no multiple of 90 degrees.
    """
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    return UPRIGHT if data is None else orientation(struct.unpack("=9i", bytes(data)))


def orientation(matrix: tuple[int, ...]) -> Orientation:
    """The turn and mirrors of a display matrix of nine numbers, row by row.

    Raises:
        ValueError: The matrix leans the picture by an angle that is no multiple of 90 degrees.
    """
    a, b, _, c, d = matrix[:5]
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:  # players ignore a matrix that would show nothing
        return UPRIGHT
    if max(abs(b) / down, abs(c) / across) < _TOLERANCE:
        return False, a < 0, d < 0
    if max(abs(a) / across, abs(d) / down) < _TOLERANCE:
        return True, c < 0, b < 0
    raise ValueError(f"the picture is to be shown at an angle of {math.degrees(math.atan2(b, a)):.1f} degrees")


def oriented(image: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """An `(H, W, 3)` image as it is shown."""
    transpose, mirror_columns, mirror_rows = orientation
    if transpose:
        image = image.transpose(1, 0, 2)
    if mirror_columns:
        image = image[:, ::-1]
    return image[::-1] if mirror_rows else image
