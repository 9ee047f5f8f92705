"""Clips of a small ray-caster, with exact cameras and depth, for the kits.

The scene is a textured room with a box in it. Colours are sums of sine waves over the surface point, so that they are
smooth, textured everywhere and the same from every view.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics, pose, rotation_y
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.video import Video

MOVES: Mapping[str, tuple[tuple[float, float, float], float]] = {
    "fixed": ((0.0, 0.0, 0.0), 0.0),
    "push in": ((0.0, 0.0, 0.8), 0.0),
    "move right": ((0.7, 0.0, 0.0), 0.0),
    "arc": ((0.6, -0.1, 0.3), -8.0),
    "pan right": ((0.0, 0.0, 0.0), 10.0),
}
"""Name -> the camera's translation over the clip, in scene units (the far wall is 4 away), and its yaw in degrees."""

_ROOM = torch.tensor([[-2.6, -1.8, -2.0], [2.6, 1.8, 4.0]], dtype=torch.float64)
_BOX = torch.tensor([[-0.8, 0.0, 2.2], [0.3, 1.0, 3.0]], dtype=torch.float64)
_NUM_WAVES = 24
_SAMPLES = 2


@dataclass(frozen=True, slots=True)
class TexturedRoom:
    """The scene; `seed` draws its texture."""

    seed: int = 0

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Exact views.

        Args:
            c2w: `(N, 4, 4)` camera-to-world inside the room.
            intrinsics: `(3, 3)` in pixels of `size`.
            size: `(H, W)`.

        Returns:
            Frames `(N, 3, H, W)` float32 in [0, 1], anti-aliased, and z-depth `(N, H, W)` float32.
        """
        views = [self._view(one.double(), intrinsics.double(), size) for one in c2w]
        return torch.stack([view[0] for view in views]), torch.stack([view[1] for view in views])

    def _view(self, c2w: Tensor, K: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        height, width = size
        y, x = ((torch.arange(n * _SAMPLES, dtype=torch.float64) + 0.5) / _SAMPLES for n in (height, width))
        rows, columns = torch.meshgrid((y - K[1, 2]) / K[1, 1], (x - K[0, 2]) / K[0, 0], indexing="ij")
        rays = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1) @ c2w[:3, :3].T
        depth = _hit(c2w[:3, 3], rays)
        colour = self._colour(c2w[:3, 3] + depth[..., None] * rays).permute(2, 0, 1)
        frame = torch.nn.functional.avg_pool2d(colour[None], _SAMPLES)[0]
        return frame.float(), torch.nn.functional.avg_pool2d(depth[None, None], _SAMPLES)[0, 0].float()

    def _colour(self, points: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        waves = torch.randn(_NUM_WAVES, 3, generator=generator, dtype=torch.float64)
        frequency = torch.logspace(0.2, 1.4, _NUM_WAVES, dtype=torch.float64)
        waves = waves / waves.norm(dim=1, keepdim=True) * frequency[:, None]
        phase = 2 * math.pi * torch.rand(_NUM_WAVES, generator=generator, dtype=torch.float64)
        mix = torch.randn(_NUM_WAVES, 3, generator=generator, dtype=torch.float64) / math.sqrt(_NUM_WAVES)
        return torch.sigmoid(1.6 * torch.sin(points @ waves.T + phase) @ mix)


def _hit(origin: Tensor, rays: Tensor) -> Tensor:
    """Ray parameter of the first surface; it is the z-depth, since rays have unit length along the optical axis."""
    rays = torch.where(rays.abs() < 1e-9, torch.full_like(rays, 1e-9), rays)
    wall = ((_ROOM[:, None, None] - origin) / rays).amax(dim=0).amin(dim=-1)
    crossings = (_BOX[:, None, None] - origin) / rays
    enter, leave = crossings.amin(dim=0).amax(dim=-1), crossings.amax(dim=0).amin(dim=-1)
    return torch.where((enter < leave) & (enter > 0), enter, wall)


def camera_path(move: str, num_frames: int, size: tuple[int, int]) -> CameraTrajectory:
    """The exact path of a move, at constant speed.

    Args:
        move: One of `MOVES`.
        num_frames: T >= 1.
        size: `(H, W)` of the frames; the focal length is the documented default, 1.2 times the width.
    """
    shift, yaw = MOVES[move]
    time = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    c2w = pose(rotation_y(yaw * time), time[:, None] * torch.tensor(shift, dtype=torch.float64))
    return CameraTrajectory(c2w, default_intrinsics(*size), size)


def make_clip(
    move: str = "arc",
    *,
    num_frames: int = 9,
    size: tuple[int, int] = (48, 64),
    prompt: str | None = None,
    seed: int = 0,
    with_target: bool = True,
) -> Clip:
    """A clip of the room.

    Args:
        move: One of `MOVES`.
        num_frames: T >= 1.
        size: `(H, W)` in pixels.
        prompt: Its text; one that names the move when left out.
        seed: Draws the texture.
        with_target: Whether the true path stands as the commanded one; poses are in units of the scene's median depth.
    """
    path = camera_path(move, num_frames, size)
    frames, depth = (tensor.clone() for tensor in _rendered(move, num_frames, size, seed))
    text = f"Camera {move}. A room with coloured walls and a box." if prompt is None else prompt
    return Clip(Video(frames), text, _in_depth_units(path, depth) if with_target else None, name=f"kit {move}")


@functools.lru_cache(maxsize=32)
def _rendered(move: str, num_frames: int, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Frames and depth of a clip, made once: kits ask for the same few clips again and again."""
    path = camera_path(move, num_frames, size)
    return TexturedRoom(seed).render(path.c2w, default_intrinsics(*size), size)


def flat_clip(*, num_frames: int = 9, size: tuple[int, int] = (48, 64)) -> Clip:
    """A blank clip: every pixel the same grey."""
    return Clip(Video(torch.full((num_frames, 3, *size), 0.5)), "Camera push in. A grey wall.", name="kit flat")


def _in_depth_units(path: CameraTrajectory, depth: Tensor) -> CameraTrajectory:
    scaled = path.scaled(1 / float(depth[0].median()))
    return CameraTrajectory(scaled.c2w, scaled.intrinsics, scaled.image_size, scene_depth=1.0)


@dataclass(frozen=True, kw_only=True)
class TrueReconstruction(Reconstruction):
    """The room itself as a reconstruction, as a perfect reconstructor would return it."""

    room: TexturedRoom
    unit: float
    size: tuple[int, int]

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Exact views, full coverage."""
        scaled = c2w.double().clone()
        scaled[:, :3, 3] *= self.unit
        frames, depth = self.room.render(scaled, intrinsics, size)
        return Render(frames, torch.ones_like(depth), depth / self.unit)

    def rerender(self) -> Render:
        """The clip's own views."""
        assert self.trajectory.intrinsics is not None
        return self.render(self.trajectory.c2w, self.trajectory.intrinsics, self.size)

    def rerender_frames(self, frames: Tensor) -> Render:
        """The same: the colours are the room's, whatever the frames show."""
        return self.rerender()


def true_reconstruction(move: str, num_frames: int, size: tuple[int, int], seed: int = 0) -> TrueReconstruction:
    """The exact reconstruction of `make_clip(move, num_frames=…, size=…, seed=…)`, in units of its median depth."""
    path = camera_path(move, num_frames, size)
    depth = _rendered(move, num_frames, size, seed)[1].clone()
    unit = float(depth[0].median())
    return TrueReconstruction(
        trajectory=_in_depth_units(path, depth),
        depth=depth / unit,
        has_parallax=path.extent > 0,
        room=TexturedRoom(seed),
        unit=unit,
        size=size,
    )
