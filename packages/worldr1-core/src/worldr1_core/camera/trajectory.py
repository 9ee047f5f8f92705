"""A camera path: poses, intrinsics, and the unit in which it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldr1_core.camera.geometry import (
    invert_pose,
    matrix_from_quaternion,
    nearest_rotation,
    pose,
    quaternion_from_matrix,
    rotation_angle,
    slerp,
)
from worldr1_core.errors import TrajectoryError

RIGID_TOLERANCE = 1e-3
"""Largest entry of |R^T R - I| that still counts as rounding; files with four digits stay below it."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraTrajectory:
    """Poses of a clip.

    Tensors, arrays and nested lists are accepted and become detached float64 tensors on the CPU. Rotations that are
    orthonormal up to rounding (`RIGID_TOLERANCE`) are replaced by the nearest exact ones.

    Attributes:
        c2w: `(T, 4, 4)` float64 camera-to-world, OpenCV axes (x right, y down, z forward), T >= 1.
        intrinsics: `(3, 3)` float64 in pixels of `image_size`, or `None` if unknown.
        image_size: `(H, W)` to which `intrinsics` refer, or `None`.
        scene_depth: Typical depth of the scene in the unit of the translations, or `None` if the scale is arbitrary.

    Raises:
        TrajectoryError: Poses are not finite, not rigid or of another shape, or the intrinsics are no pinhole camera.
    """

    c2w: Tensor
    intrinsics: Tensor | None = None
    image_size: tuple[int, int] | None = None
    scene_depth: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "c2w", check_poses(self.c2w))
        object.__setattr__(self, "image_size", check_image_size(self.image_size))
        if self.intrinsics is not None:
            object.__setattr__(self, "intrinsics", check_intrinsics(self.intrinsics))
        depth = self.scene_depth
        if depth is not None and not (_is_number(depth) and math.isfinite(depth) and depth > 0):
            raise TrajectoryError(f"scene_depth must be a positive number or None, received {depth!r}.")

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.c2w.shape[0])

    @property
    def positions(self) -> Tensor:
        """Camera centres, `(T, 3)`."""
        return self.c2w[:, :3, 3]

    @property
    def rotations(self) -> Tensor:
        """Camera-to-world rotations, `(T, 3, 3)`."""
        return self.c2w[:, :3, :3]

    @property
    def extent(self) -> float:
        """Largest distance of a camera centre from the first one; 0 for a camera that stays in place."""
        return float((self.positions - self.positions[0]).norm(dim=-1).max())

    @property
    def length(self) -> float:
        """Distance travelled, summed over the frames."""
        return float(self.positions.diff(dim=0).norm(dim=-1).sum())

    @property
    def rotation_extent(self) -> float:
        """Largest geodesic angle of a frame's orientation from the first one's, in degrees."""
        return float(torch.rad2deg(rotation_angle(self.rotations[0].T @ self.rotations)).max())

    @property
    def rests(self) -> bool:
        """True if the camera neither travels (a millionth of the scene depth) nor turns (a thousandth of a degree)."""
        return self.extent < 1e-6 * (self.scene_depth or 1.0) and self.rotation_extent < 1e-3

    def relative(self) -> CameraTrajectory:
        """The same path seen from its first camera: frame 0 is exactly the identity."""
        c2w = invert_pose(self.c2w[0]) @ self.c2w
        c2w[0] = torch.eye(4, dtype=c2w.dtype)
        return replace(self, c2w=c2w)

    def scaled(self, factor: float) -> CameraTrajectory:
        """The same path in another unit: translations and `scene_depth` are multiplied by `factor`.

        Raises:
            TrajectoryError: The factor is not a positive finite number.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise TrajectoryError(f"The scale factor must be positive and finite, received {factor!r}.")
        depth = None if self.scene_depth is None else self.scene_depth * factor
        return replace(self, c2w=pose(self.rotations, self.positions * factor), scene_depth=depth)

    def resample(self, num_frames: int) -> CameraTrajectory:
        """The same path with another number of frames, evenly spaced in time; the first and last pose are kept.

        Rotations are interpolated by SLERP, camera centres linearly.

        Raises:
            TrajectoryError: `num_frames` is not positive.
        """
        if num_frames < 1:
            raise TrajectoryError(f"A trajectory needs at least one frame, received num_frames={num_frames!r}.")
        if num_frames == self.num_frames:
            return self
        time = torch.linspace(0, self.num_frames - 1, num_frames, dtype=torch.float64)
        before = time.floor().long().clamp(max=max(self.num_frames - 2, 0))
        after = (before + 1).clamp(max=self.num_frames - 1)
        fraction = time - before
        quaternions = quaternion_from_matrix(self.rotations)
        rotations = matrix_from_quaternion(slerp(quaternions[before], quaternions[after], fraction))
        positions = torch.lerp(self.positions[before], self.positions[after], fraction.unsqueeze(-1))
        return replace(self, c2w=pose(rotations, positions))


def check_poses(values: Any, name: str = "c2w") -> Tensor:
    """Validate rigid poses; rotations that are orthonormal up to rounding are replaced by the nearest exact ones.

    Args:
        values: `(T, 4, 4)` with T >= 1, in any nested form.
        name: How messages call them.

    Returns:
        `(T, 4, 4)` float64 on the CPU.

    Raises:
        TrajectoryError: Poses are not finite, not rigid or of another shape.
    """
    poses = as_float64(values, name)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or poses.shape[0] == 0:
        raise TrajectoryError(f"{name} must be (T, 4, 4) with T >= 1, received shape {tuple(poses.shape)!r}.")
    finite = torch.isfinite(poses).all(dim=-1).all(dim=-1)
    if not bool(finite.all()):
        raise TrajectoryError(
            f"{name} of frame {_first(~finite)} holds NaN or infinite values. Every pose must be finite."
        )
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    wrong = ((poses[:, 3] - bottom).abs() > 1e-6).any(dim=-1)
    if bool(wrong.any()):
        frame = _first(wrong)
        raise TrajectoryError(
            f"{name} of frame {frame} must end with the row [0, 0, 0, 1], received {poses[frame, 3].tolist()!r}. "
            "The translation belongs in the last column; transpose the matrices if it is in the last row."
        )
    rotations = poses[:, :3, :3]
    _check_rotations(rotations, name)
    residual = _orthogonality_residual(rotations)
    poses[:, 3] = bottom
    poses[:, :3, :3] = torch.where((residual > 1e-12)[:, None, None], nearest_rotation(rotations), rotations)
    return poses


def check_intrinsics(intrinsics: Any, name: str = "intrinsics") -> Tensor:
    """Validate pinhole intrinsics.

    Args:
        intrinsics: `(3, 3)` in pixels: positive focal lengths on the diagonal, last row (0, 0, 1).
        name: How messages call them.

    Returns:
        `(3, 3)` float64 on the CPU.

    Raises:
        TrajectoryError: They have another form.
    """
    matrix = as_float64(intrinsics, name)
    if matrix.shape != (3, 3):
        raise TrajectoryError(f"{name} must be 3x3 in pixels, received shape {tuple(matrix.shape)!r}.")
    rows = matrix.tolist()
    if not bool(torch.isfinite(matrix).all()):
        raise TrajectoryError(f"{name} must be finite, received {rows!r}.")
    if rows[2] != [0.0, 0.0, 1.0] or rows[1][0] != 0.0:
        raise TrajectoryError(f"{name} must have the form [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], received {rows!r}.")
    if not (rows[0][0] > 0 and rows[1][1] > 0):
        raise TrajectoryError(
            f"{name} must have positive focal lengths, received fx={rows[0][0]!r}, fy={rows[1][1]!r}."
        )
    return matrix


def check_image_size(size: Any) -> tuple[int, int] | None:
    """Validate `(H, W)`; `None` stays `None`.

    Raises:
        TrajectoryError: It is not two positive integers.
    """
    if size is None:
        return None
    pair = list(size) if isinstance(size, (tuple, list)) else []
    if len(pair) != 2 or not all(_is_number(n) and math.isfinite(n) and n == int(n) and n > 0 for n in pair):
        raise TrajectoryError(f"image_size must be two positive integers (H, W), received {size!r}.")
    return int(pair[0]), int(pair[1])


def as_float64(values: Any, name: str) -> Tensor:
    """Numbers in any nested form as a detached float64 tensor on the CPU.

    Raises:
        TrajectoryError: `values` is ragged or holds something that is no number.
    """
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64).clone()
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TrajectoryError(f"{name} must be a full array of numbers: {error}.") from error
    return torch.from_numpy(array)


def _check_rotations(rotations: Tensor, name: str) -> None:
    residual = _orthogonality_residual(rotations)
    wrong = residual > RIGID_TOLERANCE
    if bool(wrong.any()):
        frame = _first(wrong)
        raise TrajectoryError(
            f"{name} of frame {frame} is not rigid: |R^T R - I| reaches {float(residual[frame]):.3g}, allowed is "
            f"{RIGID_TOLERANCE:g}. Remove scale and shear from the rotation part."
        )
    mirrored = torch.linalg.det(rotations) < 0
    if bool(mirrored.any()):
        raise TrajectoryError(
            f"{name} of frame {_first(mirrored)} is a reflection (determinant -1). An odd number of axes is flipped; "
            "use a right-handed frame with x right, y down, z forward."
        )


def _orthogonality_residual(rotations: Tensor) -> Tensor:
    gram = rotations.transpose(-1, -2) @ rotations - torch.eye(3, dtype=rotations.dtype)
    return gram.abs().amax(dim=(-1, -2))


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and abs(value) > 2**63:
        return False  # JSON allows integers that no float holds
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _first(mask: Tensor) -> int:
    return int(mask.nonzero()[0, 0])
