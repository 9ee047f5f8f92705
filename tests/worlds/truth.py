"""A reconstruction that is right by construction, for tests of what reads reconstructions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera import CameraTrajectory
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_rewards.probes.world.clips import WorldClip

DEPTH_TOLERANCE = 0.03
NUM_SOURCES = 5


@dataclass(frozen=True, kw_only=True)
class TrueReconstruction(Reconstruction):
    """Cameras and depth as given; views are warped from the clip's frames, hidden surfaces removed by depth.

    Attributes:
        frames: The clip, `(T, 3, H, W)`.
    """

    frames: Tensor

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Not needed by what is tested here."""
        raise NotImplementedError

    def rerender(self) -> Render:
        """Every frame from others that are spread over the clip."""
        views = [self._from_others(frame) for frame in range(len(self.frames))]
        return Render(torch.stack([v[0] for v in views]), torch.stack([v[1] for v in views]), self.depth)

    def rerender_frames(self, frames: Tensor) -> Render:
        """The same from other colours."""
        return replace(self, frames=frames).rerender()

    def _from_others(self, frame: int) -> tuple[Tensor, Tensor]:
        assert self.depth is not None
        assert self.trajectory.intrinsics is not None
        height, width = self.frames.shape[-2:]
        K = self.trajectory.intrinsics
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
        points = (pixels @ torch.linalg.inv(K).T) * self.depth[frame].double()[..., None]
        total, weight = torch.zeros(3, height, width), torch.zeros(height, width)
        sources = torch.linspace(0, len(self.frames) - 1, NUM_SOURCES).round().int().tolist()
        for other in sorted(set(sources) - {frame}):
            motion = torch.linalg.inv(self.trajectory.c2w[other]) @ self.trajectory.c2w[frame]
            seen = points @ motion[:3, :3].T + motion[:3, 3]
            uv = (seen / seen[..., 2:].clamp(min=1e-3)) @ K.T
            scale = torch.tensor([width, height], dtype=torch.float64)
            grid = (2 * uv[..., :2] / scale - 1).float()[None]
            colour = functional.grid_sample(self.frames[other][None], grid, align_corners=False)[0]
            depth = functional.grid_sample(self.depth[other][None, None], grid, align_corners=False)[0, 0]
            near = (depth - seen[..., 2].float()).abs() < DEPTH_TOLERANCE * depth
            use = ((grid[0].abs() < 1).all(-1) & near & (seen[..., 2] > 0)).float()
            total, weight = total + use * colour, weight + use
        return total / weight.clamp(min=1), (weight > 0).float()


def true_reconstruction(clip: WorldClip, *, has_parallax: bool | None = None) -> TrueReconstruction:
    """What a perfect reconstructor would say about a clip."""
    size = (clip.frames.shape[2], clip.frames.shape[3])
    path = CameraTrajectory(clip.c2w, clip.intrinsics, size, clip.scene_depth)
    moved = path.extent > 1e-6 if has_parallax is None else has_parallax
    return TrueReconstruction(trajectory=path, depth=clip.depth, has_parallax=moved, frames=clip.frames)
