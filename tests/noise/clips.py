"""Small clips on which noise is tested."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from worldr1_backbones.noise import CameraWarpNoise
from worldr1_core.backbone import LatentGeometry
from worldr1_core.camera import CameraTrajectory, trajectory_from_prompt
from worldr1_core.noise import InitialNoise, NoiseRequest


def geometry(
    channels: int = 4, frames: int = 17, size: tuple[int, int] = (15, 26), *, temporal: int = 4, spatial: int = 8
) -> LatentGeometry:
    """Sizes of a clip of `frames` video frames with a latent of `size`."""
    height, width = size
    return LatentGeometry(
        channels,
        (frames - 1) // temporal + 1,
        height,
        width,
        frames,
        height * spatial,
        width * spatial,
        temporal,
        spatial,
    )


SMALL = geometry()


def path_of(words: str, sizes: LatentGeometry = SMALL) -> CameraTrajectory:
    """The path of some camera words."""
    path = trajectory_from_prompt(words, sizes.video_frames, (sizes.video_height, sizes.video_width))
    assert path is not None
    return path


def transported(sizes: LatentGeometry = SMALL, prompt: str = "", seed: int = 0, **motion: Any) -> Tensor:
    """Noise as it is carried, without degradation and injection."""
    conditioner = CameraWarpNoise(injection="replace", degradation=0.0)
    return conditioner.initial_noise(NoiseRequest(sizes, prompt, seed, **motion)).latents


def drawn(prompt: str = "", seed: int = 0, sizes: LatentGeometry = SMALL, **options: Any) -> InitialNoise:
    """Noise of `camera-warp` with some options."""
    return CameraWarpNoise(**options).initial_noise(NoiseRequest(sizes, prompt, seed))


def wall_depth(path: CameraTrajectory, sizes: LatentGeometry = SMALL, *, column: bool = False) -> Tensor:
    """Depth `(T, H, W)` of a wall at depth 1000, with a column at 600 before it if asked, seen without turning."""
    height, width = sizes.video_height, sizes.video_width
    x = (torch.arange(width) + 0.5 - width / 2) / (1.2 * width)
    depth = torch.empty(sizes.video_frames, height, width)
    for frame, position in enumerate(path.positions.float()):
        row = (1000.0 - position[2]).expand(width)
        if column:
            near = 600.0 - position[2]
            row = torch.where((x * near + position[0]).abs() < 90, near, row)
        depth[frame] = row
    return depth
