"""Depth of an empty room along a camera path, used to move noise while the true scene is unknown.

In front of a plane, a slide and a turn move the image almost alike. In a room near surfaces move faster in the image.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.component import ComponentConfig

NEAREST = 1e-3
"""Least depth of a pixel, in scene depths."""


class Room(ComponentConfig):
    """A box around the first camera that looks along it, open behind; lengths in scene depths."""

    half_width: float = Field(0.4, gt=0, le=1e3, description="Distance of either side wall.")
    floor: float = Field(0.18, gt=0, le=1e3, description="Depth of the floor below the camera.")
    ceiling: float = Field(0.26, gt=0, le=1e3, description="Height of the ceiling above it.")
    back: float = Field(1.5, gt=0, le=1e3, description="Distance of the wall at the far end.")


def room_depth(room: Room, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int], unit: float) -> Tensor:
    """Cast the cameras' rays into the room.

    Args:
        room: The room, around a camera at the origin that looks along z.
        c2w: `(T, 4, 4)` camera-to-world, relative to the first camera.
        intrinsics: `(3, 3)` in pixels of `size`.
        size: `(H, W)`.
        unit: Length of a scene depth in the unit of the poses.

    Returns:
        `(T, H, W)` float64 z-depth in the unit of the poses. A wall that a camera has passed is gone; where nothing
        is left to be seen, depth is that of the room's farthest wall.
    """
    height, width = size
    pixels = torch.stack(
        [
            *torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy"),
            torch.ones(height, width),
        ],
        dim=-1,
    ).double()
    rays = pixels @ torch.linalg.inv(intrinsics.double()).T  # (H, W, 3), z = 1
    direction = torch.einsum("tij,hwj->thwi", c2w[:, :3, :3].double(), rays)
    origin = c2w[:, None, None, :3, 3].double() / unit
    far = max(room.half_width, room.floor, room.ceiling, room.back)
    depth = torch.full(direction.shape[:-1], torch.inf, dtype=torch.float64)
    for axis, wall in (
        (0, -room.half_width),
        (0, room.half_width),
        (1, -room.ceiling),
        (1, room.floor),
        (2, room.back),
    ):
        distance = (wall - origin[..., axis]) / direction[..., axis]
        depth = torch.where(distance > NEAREST, torch.minimum(depth, distance), depth)
    return torch.where(depth.isfinite(), depth, far) * unit
