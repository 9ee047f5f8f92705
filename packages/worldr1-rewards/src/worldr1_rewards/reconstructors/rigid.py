"""Twists, their Jacobians and pixel rays, in the form the reconstructors need them: batched, differentiable by hand.

What every user of poses needs (inverse, angle, intrinsics) is in `worldr1_core.camera.geometry`.
Poses here are world-to-camera `(…, 4, 4)` unless said otherwise. A twist is `(…, 6)`, translation part first. Pixel
centres lie at +0.5, so `x_pixel = fx X/Z + cx`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_core.camera.geometry import nearest_rotation, rotation_angle


def hat(vector: Tensor) -> Tensor:
    """Cross-product matrices `(…, 3, 3)` of `(…, 3)` vectors."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return torch.stack(rows, -2)


def rotation_exp(omega: Tensor) -> Tensor:
    """Rotation matrices `(…, 3, 3)` of rotation vectors `(…, 3)` in radians (Rodrigues' formula)."""
    angle = omega.norm(dim=-1)[..., None, None]
    small = angle < 1e-6
    safe = torch.where(small, torch.ones_like(angle), angle)
    first = torch.where(small, 1 - angle**2 / 6, safe.sin() / safe)
    second = torch.where(small, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
    cross = hat(omega)
    identity = torch.eye(3, dtype=omega.dtype, device=omega.device)
    return identity + first * cross + second * (cross @ cross)


def retract(twist: Tensor) -> Tensor:
    """A pose `(…, 4, 4)` near the identity from a twist: rotation by exponential, translation as it stands."""
    pose = torch.zeros(*twist.shape[:-1], 4, 4, dtype=twist.dtype, device=twist.device)
    pose[..., :3, :3] = rotation_exp(twist[..., 3:])
    pose[..., :3, 3] = twist[..., :3]
    pose[..., 3, 3] = 1.0
    return pose


def adjoint(pose: Tensor) -> Tensor:
    """`(…, 6, 6)` matrices with `pose · retract(ξ) = retract(adjoint(pose) ξ) · pose` to first order."""
    rotation = pose[..., :3, :3]
    result = torch.zeros(*pose.shape[:-2], 6, 6, dtype=pose.dtype, device=pose.device)
    result[..., :3, :3] = rotation
    result[..., :3, 3:] = hat(pose[..., :3, 3]) @ rotation
    result[..., 3:, 3:] = rotation
    return result


def orthonormalise(pose: Tensor) -> Tensor:
    """Remove what rounding has added to the rotations of `(…, 4, 4)` poses."""
    result = pose.clone()
    result[..., :3, :3] = nearest_rotation(pose[..., :3, :3])
    return result


def rotation_log(rotation: Tensor) -> Tensor:
    """Rotation vectors `(…, 3)` in radians of `(…, 3, 3)` rotations by less than half a turn; undoes `rotation_exp`.

    `rotation_vector` of `worldr1_core.camera.geometry` also holds at half a turn, through quaternions. The two agree to
    rounding, which the mapper and the refinement amplify: with the other one, scores move in the sixth digit.
    """
    skew = rotation - rotation.transpose(-1, -2)
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    return axis * (rotation_angle(rotation) / axis.norm(dim=-1).clamp(min=1e-12))[..., None]


def pixel_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Directions `(H, W, 3)` with z = 1 through every pixel centre."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=intrinsics.dtype, device=intrinsics.device) + 0.5,
        torch.arange(width, dtype=intrinsics.dtype, device=intrinsics.device) + 0.5,
        indexing="ij",
    )
    return rays_through(torch.stack([x, y], -1), intrinsics)


def rays_through(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Directions `(…, 3)` with z = 1 through pixel positions `(…, 2)`."""
    x = (points[..., 0] - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (points[..., 1] - intrinsics[1, 2]) / intrinsics[1, 1]
    return torch.stack([x, y, torch.ones_like(x)], -1)


def camera_motion(x: Tensor, y: Tensor, depth: Tensor) -> Tensor:
    """Jacobian of image positions with respect to a twist of the camera that sees them.

    Points are the last dimension here and in `apply_structure`: sums over them are then matrix products of rows that
    lie together in memory.

    Args:
        x: Normalised coordinates X/Z, `(…, n)`.
        y: Likewise Y/Z.
        depth: Inverse z-depth in that camera, likewise.

    Returns:
        `(…, 6, 2, n)` derivative of the normalised coordinates by a left twist of the pose.
    """
    rows = x.new_zeros(*x.shape[:-1], 6, 2, x.shape[-1])
    cross = x * y
    rows[..., 0, 0, :] = depth
    rows[..., 1, 1, :] = depth
    rows[..., 2, 0, :] = -depth * x
    rows[..., 2, 1, :] = -depth * y
    rows[..., 3, 0, :] = -cross
    rows[..., 3, 1, :] = -1 - y * y
    rows[..., 4, 0, :] = 1 + x * x
    rows[..., 4, 1, :] = cross
    rows[..., 5, 0, :] = -y
    rows[..., 5, 1, :] = x
    return rows


def apply_structure(structure: tuple[Tensor, Tensor, Tensor], rows: Tensor) -> Tensor:
    """Products of `(…, k, 2, n)` rows with one symmetric 2×2 matrix a point.

    Args:
        structure: Entries xx, xy and yy, each `(…, n)`.
        rows: `(…, k, 2, n)`.
    """
    xx, xy, yy = (entry[..., None, :] for entry in structure)
    first, second = rows[..., 0, :], rows[..., 1, :]
    result = torch.empty_like(rows)
    torch.mul(xx, first, out=result[..., 0, :]).addcmul_(xy, second)
    torch.mul(xy, first, out=result[..., 1, :]).addcmul_(yy, second)
    return result
