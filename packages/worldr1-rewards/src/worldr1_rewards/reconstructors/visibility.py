"""Visibility of a rendered view's surface in the clip's own cameras; a radiance field has colours everywhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.rigid import pixel_rays

OCCLUSION = 0.12
"""Relative excess of depth over what a camera sees there beyond which the point is hidden from it."""


def seen_share(c2w: Tensor, intrinsics: Tensor, depth: Tensor, cameras: Tensor, matrix: Tensor, maps: Tensor) -> Tensor:
    """1 where the surface under a pixel is seen by at least one camera, else 0.

    Args:
        c2w: `(4, 4)` of the view.
        intrinsics: `(3, 3)` in pixels of `depth`.
        depth: `(H, W)` z-depth of the view.
        cameras: `(T, 4, 4)` camera-to-world of the clip.
        matrix: `(3, 3)` in pixels of `maps`.
        maps: `(T, h, w)` z-depth that these cameras see.

    Returns:
        `(H, W)` of the type of `depth`.
    """
    height, width = depth.shape
    rays = pixel_rays(intrinsics.to(depth), height, width) * depth[..., None]
    points = rays.reshape(-1, 3) @ c2w[:3, :3].to(depth).T + c2w[:3, 3].to(depth)
    seen = torch.zeros(height * width, dtype=torch.bool, device=depth.device)
    size = depth.new_tensor([maps.shape[-1], maps.shape[-2]])
    for pose, own in zip(invert_pose(cameras.to(depth)), maps.to(depth), strict=True):
        local = points @ pose[:3, :3].T + pose[:3, 3]
        z = local[:, 2]
        pixels = (local @ matrix.to(depth).T)[:, :2] / z.clamp(min=1e-6)[:, None]
        inside = (z > 0) & (pixels >= 0).all(-1) & (pixels < size).all(-1)
        grid = (2 * pixels / size - 1).clamp(-2, 2)[None, None]
        there = functional.grid_sample(own[None, None], grid, padding_mode="border", align_corners=False)[0, 0, 0]
        seen |= inside & (z <= (1 + OCCLUSION) * there)
    return seen.reshape(height, width).to(depth.dtype)
