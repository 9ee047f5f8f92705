"""The scene of a scored clip for viewers: camera paths, and the reconstruction as a coloured point cloud."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics, scale_intrinsics
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.frame_grid import pick_frames
from worldr1_core.pages.encoding import resize
from worldr1_core.pages.scene import PointCloud, Scene
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.aligned_paths import align_paths
from worldr1_rewards.report.views import clip_depth

NUM_POINTS = 4500
"""Points on a page, about 40 kB."""
_NUM_FRAMES = 4
"""Frames whose pixels become points: more of them show little that is new."""
_FAR_QUANTILE = 0.98
_FAR_FACTOR = 1.5
"""Points this many times farther than the quantile are left out: sky and errors would shrink all the rest."""


def clip_scene(result: ClipScores, *, num_points: int = NUM_POINTS) -> tuple[Scene, str | None]:
    """Paths and points of a clip, seen from its first camera and measured in scene depths.

    Args:
        result: From `worldr1_rewards.scoring.Scorer.score`.
        num_points: Points at most, >= 1.

    Returns:
        The scene, and why it has no points; `None` if it has.
    """
    reconstruction = result.reconstruction
    paths, _ = align_paths(None if reconstruction is None else reconstruction.trajectory, result.clip.target)
    if reconstruction is None:
        return Scene(paths), "there is no reconstruction of this clip"
    try:
        points = point_cloud(reconstruction, result.clip.video.frames, num_points)
    except ScoreUnavailable as failure:
        return Scene(paths), str(failure)
    return Scene(paths, points), None


def point_cloud(reconstruction: Reconstruction, frames: Tensor, num_points: int) -> PointCloud:
    """Pixels of evenly spaced frames, moved to their depths.

    Args:
        reconstruction: Cameras and depth.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        num_points: Points at most, >= 1.

    Returns:
        Points in the frame of the first camera, in scene depths.

    Raises:
        ScoreUnavailable: There is no depth, or none that is determined by the video.
    """
    depth = clip_depth(reconstruction, len(frames))
    trajectory = reconstruction.trajectory.relative()
    size = (int(depth.shape[-2]), int(depth.shape[-1]))
    image_size = trajectory.image_size or (int(frames.shape[-2]), int(frames.shape[-1]))
    intrinsics = default_intrinsics(*image_size) if trajectory.intrinsics is None else trajectory.intrinsics
    inverse = torch.linalg.inv(scale_intrinsics(intrinsics, image_size, size))
    chosen = pick_frames(len(frames), _NUM_FRAMES)
    positions, colours = [], []
    for frame in chosen:
        rows, columns = _lattice(size, num_points / len(chosen))
        pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones_like(rows)], dim=-1).double()
        z = depth[frame, rows, columns].double()
        local = (pixels @ inverse.T) * z[:, None]
        c2w = trajectory.c2w[frame]
        centre = c2w[:3, 3] / (trajectory.scene_depth or 1.0)
        positions.append(torch.where(_known(z)[:, None], local @ c2w[:3, :3].T + centre, torch.nan))
        colours.append(resize(frames[frame][None].detach().cpu(), size)[0][:, rows, columns].T)
    return _near_points(torch.cat(positions), torch.cat(colours))


def _lattice(size: tuple[int, int], count: float) -> tuple[Tensor, Tensor]:
    """Rows and columns of about `count` evenly spread pixels, and never more."""
    step = max(1.0, math.sqrt(size[0] * size[1] / count))
    num_rows, num_columns = max(1, int(size[0] / step)), max(1, int(size[1] / step))
    rows = ((torch.arange(num_rows) + 0.5) * size[0] / num_rows).long()
    columns = ((torch.arange(num_columns) + 0.5) * size[1] / num_columns).long()
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return grid[0].flatten(), grid[1].flatten()


def _known(depth: Tensor) -> Tensor:
    return torch.isfinite(depth) & (depth > 0)


def _near_points(positions: Tensor, colours: Tensor) -> PointCloud:
    distance = positions.norm(dim=-1)
    known = torch.isfinite(distance)
    if not bool(known.any()):
        raise ScoreUnavailable("no sampled pixel has a depth")
    far = torch.quantile(distance[known], _FAR_QUANTILE) * _FAR_FACTOR
    kept = known & (distance <= far)
    return PointCloud(positions[kept], colours[kept])
