"""Image motion that a camera path causes on a fronto-parallel plane (paper, section 1 of the method, step 3).

The plane stands at the scene depth in front of each frame's camera, at right angles to its viewing direction; its image
moves by a homography, and the flow to the next frame is f(u) = u' - u. Pixel centres lie at +0.5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics, invert_pose, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError


def plane_homography(source: Tensor, target: Tensor, intrinsics: Tensor, depth: float) -> Tensor:
    """Homographies that carry pixels of a source camera to a target camera: H = K (R + t n^T / d) K^-1, n = (0, 0, 1).

    `(R, t)` takes points from the source's to the target's frame (Hartley and Zisserman, section 13.1).

    Args:
        source: `(..., 4, 4)` camera-to-world.
        target: `(..., 4, 4)` camera-to-world.
        intrinsics: `(3, 3)` in pixels.
        depth: Distance of the plane in front of the source camera, in the unit of the poses.

    Returns:
        `(..., 3, 3)`, scaled so that the third homogeneous coordinate of H u is z' / depth: its sign tells whether the
        point lies in front of the target camera.
    """
    motion = invert_pose(target) @ source
    matrix = motion[..., :3, :3].clone()
    matrix[..., 2] += motion[..., :3, 3] / depth
    return intrinsics @ matrix @ torch.linalg.inv(intrinsics)


def pixel_grid(height: int, width: int) -> Tensor:
    """Pixel centres `(2, H, W)` float64, x then y: (0.5, 0.5) is the first."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    return torch.stack([x, y])


def plane_flow(trajectory: CameraTrajectory, size: tuple[int, int]) -> Tensor:
    """Flow from each frame to the next.

    Args:
        trajectory: Path of T poses with `scene_depth`. Known intrinsics are scaled from its `image_size` to `size`;
            unknown ones take the default guess (focal length 1.2 x width).
        size: `(H, W)` of the flow.

    Returns:
        `(T - 1, 2, H, W)` float32 in pixels of `size`, x then y; NaN where the plane lies behind the next camera.

    Raises:
        TrajectoryError: The trajectory has no `scene_depth`, or intrinsics without the image size they refer to.
    """
    if trajectory.scene_depth is None:
        raise TrajectoryError("Flow needs the depth of the scene: set scene_depth of the trajectory, received None.")
    intrinsics = _intrinsics(trajectory, size)
    homographies = plane_homography(trajectory.c2w[:-1], trajectory.c2w[1:], intrinsics, trajectory.scene_depth)
    pixels = pixel_grid(*size)
    points = torch.cat([pixels, torch.ones_like(pixels[:1])]).flatten(1)
    flow = torch.empty(len(homographies), 2, *size)
    for index, homography in enumerate(homographies):
        moved = homography @ points
        seen = torch.where(moved[2] > 0, moved[2], torch.full_like(moved[2], torch.nan))
        flow[index] = (moved[:2] / seen).view(2, *size) - pixels
    return flow


def _intrinsics(trajectory: CameraTrajectory, size: tuple[int, int]) -> Tensor:
    if trajectory.intrinsics is None:
        return default_intrinsics(*size)
    if trajectory.image_size is None:
        raise TrajectoryError(
            "Flow needs to know which image size the intrinsics refer to: set image_size, received None."
        )
    return scale_intrinsics(trajectory.intrinsics, trajectory.image_size, size)
