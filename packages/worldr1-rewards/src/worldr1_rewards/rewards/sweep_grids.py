"""Sampling grids of a plane sweep: where the pixels of the middle frame, at each depth, lie in the other frames.

A grid depends on the path and the picture size alone, and training asks for the same few paths in every step, so the
most recent grids are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics, invert_pose, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError

NUM_PLANES = 16
NEAREST, FARTHEST = 0.3, 2.4
"""Depths that are swept, in scene depths, evenly in inverse depth."""
LEAST_DISPLACEMENT = 0.1
"""Root mean square displacement in pixels below which its direction hardly counts."""
CACHE_BYTES = 256 * 2**20
"""Memory that the kept grids may take, about 55 moving paths of 9 frames at 64 x 64."""

_kept: OrderedDict[object, tuple[Tensor, Tensor]] = OrderedDict()
_lock = Lock()


def sweep_grid(trajectory: CameraTrajectory, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Sampling grid of each plane, for the views of the middle frame in every other frame.

    Args:
        trajectory: T poses with `scene_depth`; unknown intrinsics take the default guess (focal length 1.2 x width).
        size: `(H, W)` of the frames.

    Returns:
        Grids `(T - 1, D, H, W, 2)` for `grid_sample`, and `(T - 1, D, H, W)` booleans that say where they fall inside;
        both on the CPU, shared with other callers and not to be written to. D is `NUM_PLANES`, or 1 for a path without
        translation.

    Raises:
        TrajectoryError: The trajectory has no `scene_depth`.
    """
    key = _grid_key(trajectory, size)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    made = _make_grid(trajectory, size)
    with _lock:
        _kept[key] = made
        while len(_kept) > 1 and sum(grid.nbytes + inside.nbytes for grid, inside in _kept.values()) > CACHE_BYTES:
            _kept.popitem(last=False)
    return made


def _grid_key(trajectory: CameraTrajectory, size: tuple[int, int]) -> object:
    """Equal only for paths that are equal to the last bit, so that a score does not depend on what came before."""
    intrinsics = None if trajectory.intrinsics is None else tuple(trajectory.intrinsics.flatten().tolist())
    poses = trajectory.c2w.detach().cpu().numpy().tobytes()
    return poses, trajectory.scene_depth, intrinsics, trajectory.image_size, size


def _make_grid(trajectory: CameraTrajectory, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if trajectory.scene_depth is None:
        raise TrajectoryError("A sweep needs the depth of the scene: set scene_depth of the trajectory, received None.")
    height, width = size
    middle = trajectory.num_frames // 2
    K = _intrinsics(trajectory, size)
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5 - K[1, 2]) / K[1, 1], (torch.arange(width) + 0.5 - K[0, 2]) / K[0, 0], indexing="ij"
    )
    planes = NUM_PLANES if trajectory.extent > 0 else 1  # a camera that only turns sees every depth alike
    depth = trajectory.scene_depth / torch.linspace(1 / FARTHEST, 1 / NEAREST, planes, dtype=torch.float64)
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
    points = rays * depth.view(-1, 1, 1, 1)
    motion = invert_pose(trajectory.c2w) @ trajectory.c2w[middle]
    keep = [t for t in range(trajectory.num_frames) if t != middle]
    moved = torch.einsum("tij,dhwj->tdhwi", motion[keep, :3, :3], points) + motion[keep][:, None, None, None, :3, 3]
    z = moved[..., 2:]
    seen = z.clamp(min=1e-6 * trajectory.scene_depth)
    u = (moved[..., :1] / seen * K[0, 0] + K[0, 2]) * (2 / width) - 1
    v = (moved[..., 1:2] / seen * K[1, 1] + K[1, 2]) * (2 / height) - 1
    grid = torch.cat([u, v], dim=-1).clamp(-9, 9).float()
    in_front = z[..., 0] > 0.02 * trajectory.scene_depth
    return grid, (grid.abs().amax(-1) < 1) & in_front


def _intrinsics(trajectory: CameraTrajectory, size: tuple[int, int]) -> Tensor:
    if trajectory.intrinsics is None or trajectory.image_size is None:
        return default_intrinsics(*size)
    return scale_intrinsics(trajectory.intrinsics, trajectory.image_size, size)


def horizontal_shares(trajectory: CameraTrajectory, size: tuple[int, int]) -> Tensor:
    """How much of the displacement that a path causes is horizontal, for each pixel of the middle frame.

    It is dx^2 / (dx^2 + dy^2), where the squared displacements in pixels from the middle frame to the others are summed
    over these frames, at the middle plane of the sweep.

    Args:
        trajectory: As `sweep_grid` takes it.
        size: `(H, W)` of the frames.

    Returns:
        `(H, W)` in [0, 1], on the CPU; 0.5 where nothing moves.

    Raises:
        TrajectoryError: The trajectory has no `scene_depth`.
    """
    height, width = size
    grid, _ = sweep_grid(trajectory, size)
    plane = grid[:, grid.shape[1] // 2]
    x = (torch.arange(width) + 0.5) * (2 / width) - 1
    y = (torch.arange(height) + 0.5) * (2 / height) - 1
    horizontal = ((plane[..., 0] - x) * (width / 2)).square().sum(0)
    vertical = ((plane[..., 1] - y[:, None]) * (height / 2)).square().sum(0)
    least = LEAST_DISPLACEMENT**2 * len(plane)
    return (horizontal + least) / (horizontal + vertical + 2 * least)
