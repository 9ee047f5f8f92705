"""Intrinsics as files state them, brought to the size of a clip.

A file may state the size of the image its intrinsics are for, or not; focal lengths may be in pixels or normalised (in
units of image width and height). What follows with certainty is used; the rest is an error that says what to add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.geometry import scale_intrinsics
from worldr1_core.camera.trajectory import as_float64, check_image_size, check_intrinsics
from worldr1_core.errors import TrajectoryError
from worldr1_core.log import get_logger

log = get_logger(__name__)

NORMALISED = (1, 1)
"""Image size `(H, W)` of normalised intrinsics: the unit of x is the image width, that of y its height."""

ASPECT_TOLERANCE = 0.03
"""Relative difference in aspect ratio that still counts as the same image: 1280 x 720 and 832 x 480 differ by 2.5 %."""

NEAR_CENTRE = 0.1
"""A principal point this close to the centre (relative to half the side) is that of the clip's own size."""

OFF_CENTRE = 0.25
"""A principal point further from the centre (relative to half the side) needs a stated image size."""

_LARGEST_NORMALISED = 10.0
_Size = tuple[int, int] | tuple[float, float]


@dataclass(frozen=True, slots=True)
class StatedCamera:
    """Pinhole intrinsics of a file.

    Attributes:
        matrix: `(3, 3)` float64 in pixels of `size`.
        size: `(H, W)`; `NORMALISED` for normalised intrinsics; `None` if the file states no size.
        square_pixels: Whether only `fx` is stated and `fy` follows from square pixels.
    """

    matrix: Tensor
    size: tuple[int, int] | None = None
    square_pixels: bool = False

    def __post_init__(self) -> None:
        matrix = check_intrinsics(self.matrix)
        object.__setattr__(self, "matrix", matrix)
        if looks_normalised(matrix) and self.size in (None, NORMALISED):
            object.__setattr__(self, "size", NORMALISED)
        elif self.size is not None:
            if looks_normalised(matrix):
                matrix = scale_intrinsics(matrix, NORMALISED, self.size)
                object.__setattr__(self, "matrix", matrix)
            _check_inside(matrix, self.size)

    def at(self, image_size: tuple[int, int]) -> Tensor:
        """Intrinsics `(3, 3)` in pixels of a clip of `image_size` `(H, W)`.

        Raises:
            TrajectoryError: They belong to an image of another aspect ratio, or of a size that cannot be told.
        """
        if self.size == NORMALISED:
            return self._from_normalised(image_size)
        size = _guessed_size(self.matrix, image_size) if self.size is None else self.size
        if size is None:
            return self.matrix
        _check_aspect(self.matrix, size, image_size, f"intrinsics are for image_size {list(size)!r} (H, W)")
        return _scaled(self.matrix, size, image_size)

    def _from_normalised(self, image_size: tuple[int, int]) -> Tensor:
        matrix = scale_intrinsics(self.matrix, NORMALISED, image_size)
        if self.square_pixels:
            matrix[1, 1] = matrix[0, 0]
        if abs(float(matrix[0, 0] / matrix[1, 1]) - 1) > ASPECT_TOLERANCE:
            # Pixels are square, so that the image had the aspect ratio fy / fx.
            aspect = float(self.matrix[1, 1] / self.matrix[0, 0])
            size = (1.0, aspect)
            stated = f"normalised intrinsics are those of an image with aspect ratio {aspect:.4g} (fy / fx)"
            _check_aspect(_scaled(self.matrix, NORMALISED, size), size, image_size, stated)
        return matrix


def from_four(values: Sequence[float], size: tuple[int, int] | None = None) -> StatedCamera:
    """Camera of `fx, fy, cx, cy`."""
    focal_x, focal_y, centre_x, centre_y = values
    rows = [[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]]
    return StatedCamera(torch.tensor(rows, dtype=torch.float64), size)


def from_values(values: Any, size: Any = None, name: str = "intrinsics") -> StatedCamera | None:
    """Camera of one `(3, 3)` matrix, or of one per frame: `(T, 3, 3)` or `(T, 4)` with `fx, fy, cx, cy`.

    Returns:
        `None` if intrinsics change from frame to frame (see `constant_camera`).
    """
    size = check_image_size(size)
    matrices = as_float64(values, name)
    if matrices.ndim == 2 and matrices.shape[1] == 4 and len(matrices):
        return constant_camera([replace_size(from_four(row), size) for row in matrices.tolist()])
    if matrices.ndim == 3 and matrices.shape[1:] == (3, 3) and len(matrices):
        return constant_camera([StatedCamera(matrix, size) for matrix in matrices])
    return StatedCamera(check_intrinsics(matrices, name), size)


def replace_size(camera: StatedCamera, size: tuple[int, int] | None) -> StatedCamera:
    """The same camera with the size that another field of the file states."""
    return camera if size is None else replace(camera, size=size)


def constant_camera(cameras: Sequence[StatedCamera]) -> StatedCamera | None:
    """The camera that all frames share, or `None`, with a warning, if they do not share one."""
    first = cameras[0]
    scale = first.matrix[:2].abs().clamp(min=1e-6).max()
    for index, camera in enumerate(cameras):
        if camera.size != first.size or bool(((camera.matrix - first.matrix).abs() > 1e-4 * scale).any()):
            log.warning(
                "intrinsics dropped: they change from frame to frame, and a clip has one camera; the path is read",
                first_frame=first.matrix.tolist(),
                other_frame=camera.matrix.tolist(),
                other_index=index,
            )
            return None
    return first


def looks_normalised(matrix: Tensor) -> bool:
    """Return True for intrinsics in units of image width and height: all small, principal point near (.5, .5)."""
    (focal_x, _, centre_x), (_, focal_y, centre_y), _ = matrix.tolist()
    small = max(focal_x, focal_y) < _LARGEST_NORMALISED
    return small and all(0.25 <= centre <= 0.75 for centre in (centre_x, centre_y))


def image_size_of(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """`(H, W)` from `image_size`, `h` and `w`, or `height` and `width`."""
    if fields.get("image_size") is not None:
        return check_image_size(fields["image_size"])
    for height, width in (("h", "w"), ("height", "width"), ("H", "W")):
        if height in fields and width in fields:
            return check_image_size([fields[height], fields[width]])
    return None


def _check_inside(matrix: Tensor, size: tuple[int, int]) -> None:
    height, width = size
    centre_x, centre_y = float(matrix[0, 2]), float(matrix[1, 2])
    if not (0 < centre_x < width and 0 < centre_y < height):
        raise TrajectoryError(
            f"intrinsics place the principal point at ({centre_x:g}, {centre_y:g}), outside of image_size "
            f"{[height, width]!r} (H, W). State the size of the image for which they hold."
        )


def _guessed_size(matrix: Tensor, image_size: tuple[int, int]) -> _Size | None:
    """Size `(H, W)` to scale from, or `None` for intrinsics in pixels of the clip itself."""
    height, width = image_size
    if float(matrix.diagonal()[:2].max()) < _LARGEST_NORMALISED:
        raise TrajectoryError(
            f"intrinsics {matrix.tolist()!r} are too small for pixels, and normalised ones have cx and cy near 0.5. "
            "Give them in pixels of the clip, or normalised by the image's width (fx, cx) and height (fy, cy)."
        )
    ratio_x, ratio_y = 2 * float(matrix[0, 2]) / width, 2 * float(matrix[1, 2]) / height
    same_aspect = min(ratio_x, ratio_y) > 0 and abs(ratio_x / ratio_y - 1) <= ASPECT_TOLERANCE
    offset = max(abs(ratio_x - 1), abs(ratio_y - 1))
    centred = f"{round(2 * float(matrix[0, 2]))} x {round(2 * float(matrix[1, 2]))}"
    if offset <= NEAR_CENTRE:
        if same_aspect and offset > 0.02:
            log.warning("intrinsics taken in pixels of the clip, not of another size", clip=image_size, other=centred)
        return None
    if offset <= OFF_CENTRE and not same_aspect:
        return None
    if offset > OFF_CENTRE and same_aspect:
        ratio = math.sqrt(ratio_x * ratio_y)
        return height * ratio, width * ratio
    raise TrajectoryError(
        f"intrinsics state no image size, and their principal point ({float(matrix[0, 2]):g}, {float(matrix[1, 2]):g}) "
        f"is not at the centre of the clip, {width} x {height} pixels; it is that of an image of {centred}. Write "
        '{"intrinsics": ..., "image_size": [H, W]} with the size for which they hold.'
    )


def _check_aspect(matrix: Tensor, size: _Size, image_size: tuple[int, int], stated: str) -> None:
    ratio_y, ratio_x = image_size[0] / size[0], image_size[1] / size[1]
    if abs(ratio_x / ratio_y - 1) <= ASPECT_TOLERANCE:
        return
    ratio = max(ratio_x, ratio_y)
    shift = ((image_size[1] - ratio * size[1]) / 2, (image_size[0] - ratio * size[0]) / 2)
    raise TrajectoryError(
        f"{stated}, the clip is {list(image_size)!r}: another aspect ratio, so it was cropped or stretched. Give the "
        f"intrinsics of the clip itself (--intrinsics): {_listed(matrix, (ratio, ratio), shift)} if the clip was "
        f"cropped about its centre, {_listed(matrix, (ratio_x, ratio_y), (0.0, 0.0))} if it was stretched."
    )


def _scaled(matrix: Tensor, size: _Size, image_size: _Size) -> Tensor:
    ratio = torch.tensor([image_size[1] / size[1], image_size[0] / size[0], 1.0], dtype=matrix.dtype)
    return matrix * ratio.unsqueeze(-1)


def _listed(matrix: Tensor, scale: tuple[float, float], shift: tuple[float, float]) -> str:
    (focal_x, skew, centre_x), (_, focal_y, centre_y), _ = matrix.tolist()
    rows = [
        [round(focal_x * scale[0], 2), round(skew * scale[0], 2), round(centre_x * scale[0] + shift[0], 2)],
        [0, round(focal_y * scale[1], 2), round(centre_y * scale[1] + shift[1], 2)],
        [0, 0, 1],
    ]
    return str(rows)
