"""Camera path that a request commands, and the image motion of the scene plane under it.

The plane is the paper's (section 1 of the method, step 3): at right angles to the viewing direction, at the scene depth
in front of *each* frame's camera. Adjacent frames are related by a homography, and homographies compose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_core.backbone import LatentGeometry
from worldr1_core.camera.flow import plane_homography
from worldr1_core.camera.geometry import default_intrinsics, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, UserError

STILL = 1e-9
"""Largest extent, in units of the path, of a path that counts as staying in place."""


def fit_to_clip(path: CameraTrajectory, num_frames: int, *, resample: bool) -> CameraTrajectory:
    """The path seen from its first camera, one pose per video frame.

    Args:
        path: Any path.
        num_frames: T of the video.
        resample: Whether a path of another length is stretched over the clip.

    Raises:
        TrajectoryError: The path has another length and is not to be resampled.
    """
    if path.num_frames != num_frames and not resample:
        raise TrajectoryError(
            f"The commanded path has {path.num_frames} poses, the video {num_frames} frames. Give one pose per frame, "
            "or set resample: true to stretch the path over the clip."
        )
    return path.resample(num_frames).relative()


def latent_frames(geometry: LatentGeometry) -> Tensor:
    """Video frames that the latent frames show, `(num_frames,)` int64.

    Raises:
        UserError: The last one lies beyond the video.
    """
    frames = torch.arange(geometry.num_frames) * geometry.temporal_stride
    if int(frames[-1]) >= geometry.video_frames:
        raise UserError(
            f"{geometry.num_frames} latent frames, {geometry.temporal_stride} video frames apart, need "
            f"{int(frames[-1]) + 1} video frames, received {geometry.video_frames}."
        )
    return frames


def intrinsics_at(path: CameraTrajectory, geometry: LatentGeometry, size: tuple[int, int]) -> Tensor:
    """Intrinsics `(3, 3)` in pixels of `size`: the path's own, or the default guess (focal length 1.2 x width).

    Raises:
        TrajectoryError: The path has intrinsics but not the image size they refer to.
    """
    video = (geometry.video_height, geometry.video_width)
    if path.intrinsics is None:
        return scale_intrinsics(default_intrinsics(*video), video, size)
    if path.image_size is None:
        raise TrajectoryError(
            "The commanded path has intrinsics but no image_size that they refer to. Set image_size to (H, W)."
        )
    return scale_intrinsics(path.intrinsics, path.image_size, size)


def plane_depth(path: CameraTrajectory, default: float | None) -> float:
    """Depth of the scene plane in the path's unit; `default` where the path states none.

    Raises:
        TrajectoryError: Neither is known, and the path moves, so that it matters.
    """
    depth = path.scene_depth if path.scene_depth is not None else default
    if depth is not None:
        return depth
    if path.extent > STILL:
        raise TrajectoryError(
            f"The commanded path moves by {path.extent:.4g} units and states no scene_depth, so how far the image "
            "moves is unknown. Set scene_depth: the distance of the scene in the path's unit."
        )
    return 1.0


def plane_maps(path: CameraTrajectory, depth: float, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of the scene's image from the first frame of a stretch to each of some frames.

    A map takes viewing rays, as homogeneous coordinates (x / z, y / z, 1) times any positive number, to viewing rays.
    Where a step carries the camera through the plane, no part of the image remains, and a new stretch begins.

    Args:
        path: T poses.
        depth: Distance of the plane in front of every camera, in the path's unit.
        frames: `(K,)` int64 indices of frames, ascending.

    Returns:
        Maps `(K, 3, 3)` float64 of Frobenius norm 1, and the stretch `(K,)` int64 to which each frame belongs.
    """
    steps = plane_homography(path.c2w[:-1], path.c2w[1:], torch.eye(3, dtype=torch.float64), depth)
    passes = torch.linalg.det(steps) <= 0
    current, maps = torch.eye(3, dtype=torch.float64), []
    for index in range(path.num_frames):
        if index:
            current = torch.eye(3, dtype=torch.float64) if passes[index - 1] else steps[index - 1] @ current
            current = current / current.norm()
        maps.append(current)
    stretch = torch.cat([torch.zeros(1, dtype=torch.int64), passes.long().cumsum(0)])
    return torch.stack(maps)[frames], stretch[frames]
