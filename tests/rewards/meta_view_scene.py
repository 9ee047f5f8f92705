"""A scene with an exact answer: one textured rectangle, rendered by intersecting rays with its plane."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.video import Video

SIZE = (48, 64)


@dataclass(frozen=True, kw_only=True)
class Card(Reconstruction):
    """The rectangle |x|, |y| <= `half` in the plane z = `distance`, red growing with x and green with y."""

    half: float = 10.0
    distance: float = 1.0
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        self.sizes.append(size)
        height, width = size
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
        rays = pixels @ torch.linalg.inv(intrinsics).T
        directions = torch.einsum("nij,hwj->nhwi", c2w[:, :3, :3], rays)
        origins = c2w[:, None, None, :3, 3]
        depth = (self.distance - origins[..., 2]) / directions[..., 2]
        hits = origins + depth[..., None] * directions
        inside = (hits[..., :2].abs() <= self.half).all(-1) & (depth > 0)
        colours = torch.stack([hits[..., 0] % 1, hits[..., 1] % 1, torch.full_like(depth, 0.5)], 1)
        frames = torch.where(inside[:, None], colours, torch.nan)
        return Render(frames.float(), inside.float(), torch.where(inside, depth, 0.0).float())

    def rerender(self) -> Render:
        raise NotImplementedError


def path(offsets: Tensor, *, scene_depth: float | None = None) -> CameraTrajectory:
    """Cameras that look ahead from the given positions `(T, 3)`."""
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(offsets), 1, 1)
    c2w[:, :3, 3] = offsets
    return CameraTrajectory(c2w, default_intrinsics(*SIZE), SIZE, scene_depth)


def sideways(num_frames: int = 5, extent: float = 0.3) -> CameraTrajectory:
    """A move to the right."""
    return path(torch.linspace(0, extent, num_frames)[:, None] * torch.tensor([1.0, 0.0, 0.0]))


def still(num_frames: int = 5) -> CameraTrajectory:
    """A camera that does not move."""
    return path(torch.zeros(num_frames, 3))


def clip(target: CameraTrajectory | None = None, prompt: str = "Camera move right. A red wall.") -> Clip:
    """A clip of random frames."""
    frames = torch.rand(5, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return Clip(Video(frames), prompt=prompt, target=target)


class RecordingJudge(Judge):
    """Keeps what it was asked and grades by the brightness of the second picture."""

    def __init__(self, answers: list[JudgeResult | Exception] | None = None) -> None:
        super().__init__()
        self.calls: list[list[JudgeRequest]] = []
        self.answers = answers

    def grade(self, requests):
        self.calls.append(list(requests))
        if self.answers is not None:
            return self.answers
        return [JudgeResult(float(request.images[1].mean().clamp(0, 1)), 0.9) for request in requests]
