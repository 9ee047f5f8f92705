"""Rigid-body and pinhole maths shared by everything that handles camera poses.

Poses are camera-to-world, OpenCV axes (x right, y down, z forward). Quaternions are `(x, y, z, w)`, as in TUM files.
Pixel coordinates are continuous: the image spans [0, W] x [0, H], pixel centres lie at +0.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldr1_core.errors import TrajectoryError

DEFAULT_FOCAL_FACTOR = 1.2
"""Focal length over image width where nothing is known about the camera (the paper's noise conditioning uses it)."""


def pose(rotation: Tensor, translation: Tensor) -> Tensor:
    """Assemble `(..., 4, 4)` poses from `(..., 3, 3)` rotations and `(..., 3)` translations."""
    top = torch.cat([rotation, translation.unsqueeze(-1)], dim=-1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1.0
    return torch.cat([top, bottom], dim=-2)


def invert_pose(c2w: Tensor) -> Tensor:
    """Invert rigid `(..., 4, 4)` transforms: camera-to-world becomes world-to-camera and back."""
    rotation = c2w[..., :3, :3].transpose(-1, -2)
    return pose(rotation, -(rotation @ c2w[..., :3, 3:]).squeeze(-1))


def rotation_y(degrees: float | Tensor) -> Tensor:
    """Rotations about the (downward) y axis, `(..., 3, 3)` float64; positive angles turn the camera to its right."""
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [torch.stack(row, dim=-1) for row in ([cos, zero, sin], [zero, one, zero], [-sin, zero, cos])]
    return torch.stack(rows, dim=-2)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotations closest to `(..., 3, 3)` matrices in the Frobenius norm (orthogonal Procrustes)."""
    u, _, vh = torch.linalg.svd(matrix)
    sign = torch.ones_like(matrix[..., 0])
    sign[..., 2] = torch.linalg.det(u @ vh).sign()  # the determinant itself is 1 or -1 only up to rounding
    return u @ (sign.unsqueeze(-1) * vh)


def rotation_angle(rotation: Tensor) -> Tensor:
    """Geodesic angles in radians, in [0, pi], of `(..., 3, 3)` rotations; accurate near 0 and near pi.

    Written with atan2 of the sine and cosine parts: the usual arccos of the trace loses half the digits near 0.
    """
    skew = (rotation - rotation.transpose(-1, -2)) / 2
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1).norm(dim=-1)
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.atan2(sine, cosine)


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternions `(..., 4)` in `(x, y, z, w)` order with w >= 0, of `(..., 3, 3)` rotations.

    Takes, for each rotation, the best conditioned of the four classical formulas (Shepperd 1978).
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = [
        [1 + xx - yy - zz, d, e, a],
        [d, 1 - xx + yy - zz, f, b],
        [e, f, 1 - xx - yy + zz, c],
        [a, b, c, 1 + xx + yy + zz],
    ]
    candidates = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    chosen = torch.take_along_dim(candidates, best[..., None, None], dim=-2).squeeze(-2)
    unit = chosen / chosen.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., 3:] < 0, -unit, unit)


def matrix_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotations `(..., 3, 3)` of `(..., 4)` quaternions `(x, y, z, w)`; the quaternions are normalised first."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def rotation_vector(rotation: Tensor) -> Tensor:
    """Rotation vectors `(..., 3)` (axis times angle in radians, angle in [0, pi]) of `(..., 3, 3)` rotations."""
    quaternion = quaternion_from_matrix(rotation)
    sine = quaternion[..., :3].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * torch.where(sine < 1e-12, torch.full_like(sine, 2.0), angle / sine.clamp(min=1e-12))


def slerp(start: Tensor, end: Tensor, fraction: Tensor) -> Tensor:
    """Spherical linear interpolation between unit quaternions, along the shorter arc.

    Args:
        start: `(..., 4)` at fraction 0.
        end: `(..., 4)` at fraction 1.
        fraction: `(...)` in [0, 1].
    """
    cosine = (start * end).sum(-1, keepdim=True)
    end = torch.where(cosine < 0, -end, end)
    angle = 2 * torch.atan2((end - start).norm(dim=-1, keepdim=True), (end + start).norm(dim=-1, keepdim=True))
    t = fraction.unsqueeze(-1)
    near = angle < 1e-6
    sine = torch.sin(torch.where(near, torch.ones_like(angle), angle))
    mixed = (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / sine
    mixed = torch.where(near, (1 - t) * start + t * end, mixed)
    return mixed / mixed.norm(dim=-1, keepdim=True)


def default_intrinsics(height: int, width: int) -> Tensor:
    """The documented guess for an unknown camera: focal length 1.2 x width, principal point at the centre.

    Returns:
        `(3, 3)` float64 in pixels.

    Raises:
        TrajectoryError: A side is not positive.
    """
    if not (height > 0 and width > 0):
        raise TrajectoryError(f"The image size must be positive, received height {height!r} and width {width!r}.")
    focal = DEFAULT_FOCAL_FACTOR * width
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]], dtype=torch.float64)


def scale_intrinsics(intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Intrinsics of the same camera after its image is resized.

    Pixel coordinates are continuous (centres at +0.5), so the principal point scales like the focal length.

    Args:
        intrinsics: `(3, 3)` in pixels of `from_size`.
        from_size: `(H, W)` before.
        to_size: `(H, W)` after.

    Raises:
        TrajectoryError: A side is not positive.
    """
    if min(*from_size, *to_size) <= 0:
        raise TrajectoryError(f"Image sizes must be positive (H, W), received {from_size!r} and {to_size!r}.")
    ratio = [to_size[1] / from_size[1], to_size[0] / from_size[0], 1.0]
    return intrinsics * torch.tensor(ratio, dtype=intrinsics.dtype, device=intrinsics.device).unsqueeze(-1)


def field_of_view(intrinsics: Tensor, image_size: tuple[int, int]) -> tuple[float, float]:
    """Vertical and horizontal field of view in degrees of a centred camera with these `(3, 3)` intrinsics."""
    height, width = image_size
    focal_x, focal_y = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    return math.degrees(2 * math.atan2(height / 2, focal_y)), math.degrees(2 * math.atan2(width / 2, focal_x))
