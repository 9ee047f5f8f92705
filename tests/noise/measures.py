"""What is asked of noise, measured: is it N(0, 1), is it white, and does it move as it should?"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory


def goodness_of_fit(values: Tensor) -> float:
    """p-value of the Kolmogorov-Smirnov test against N(0, 1)."""
    return float(stats.kstest(values.flatten().double().numpy(), "norm").pvalue)


def lag_scores(noise: Tensor, reach: int = 3) -> Tensor:
    """Autocorrelation at every spatial lag up to `reach`, in standard errors: N(0, 1) each if the noise is white.

    Args:
        noise: `(N, H, W)` independent fields.
        reach: Largest lag in pixels along either axis.
    """
    height, width = noise.shape[-2:]
    scores = []
    for down in range(reach + 1):
        for right in range(-reach if down else 1, reach + 1):
            a = noise[:, : height - down, max(0, -right) : width - max(0, right)]
            b = noise[:, down:, max(0, right) : width - max(0, -right)]
            scores.append(float((a * b).sum()) / math.sqrt(a.numel()))
    return torch.tensor(scores)


def plane_warp(
    path: CameraTrajectory, first: int, last: int, size: tuple[int, int], depth: float = 1000.0
) -> np.ndarray:
    """Homography `(3, 3)` from latent pixels of frame `first` to frame `last`, step by step past a plane before each
    camera."""
    intrinsics = default_intrinsics(*size).numpy()
    c2w = path.c2w.numpy()
    total = np.eye(3)
    for t in range(first, last):
        motion = np.linalg.inv(c2w[t + 1]) @ c2w[t]
        total = (motion[:3, :3] + np.outer(motion[:3, 3], [0, 0, 1 / depth])) @ total
    return intrinsics @ total @ np.linalg.inv(intrinsics)


def motion_correlation(before: Tensor, after: Tensor, homography: np.ndarray, samples: int = 12) -> float:
    """Correlation of a frame's noise with what the frame before it predicts.

    A pixel's prediction is the sum over the pixels of the frame before, each weighed by how much of it moves into the
    pixel, at unit variance. Pixels that see anything beyond the border of the frame before are left out.

    Args:
        before: `(C, H, W)`.
        after: `(C, H, W)`.
        homography: From pixels of `before` to pixels of `after`.
        samples: Points along the side of a pixel by which areas are measured.
    """
    height, width = before.shape[-2:]
    offset = (np.arange(samples) + 0.5) / samples
    y, x = np.meshgrid(
        (np.arange(height)[:, None] + offset).ravel(), (np.arange(width)[:, None] + offset).ravel(), indexing="ij"
    )
    u, v, w = np.linalg.inv(homography) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    column, row = np.floor(u / w).astype(int), np.floor(v / w).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (w > 0)
    target = np.floor(y.ravel()).astype(int) * width + np.floor(x.ravel()).astype(int)
    area = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([target[inside], (row * width + column)[inside]])),
        torch.ones(int(inside.sum()), dtype=torch.float64),
        (height * width, height * width),
        check_invariants=False,
    ).coalesce()
    whole = torch.from_numpy(np.bincount(target[inside], minlength=height * width) == samples**2)
    power = torch.sparse.sum(area * area, dim=1).to_dense()
    predicted = (area @ before.double().flatten(1).T) / power.clamp(min=1e-12).sqrt().unsqueeze(1)
    return _cosine(predicted[whole], after.double().flatten(1).T[whole])


def smooth_correlation(before: Tensor, after: Tensor, homography: np.ndarray, side: int = 5) -> float:
    """Correlation of low-passed noise along the motion.

    Box means over `side` x `side` pixels of the frame before, looked up bilinearly where the motion comes from,
    against box means of the frame after. It depends little on where pixel borders fall and falls with every error of
    the displacement.

    Args:
        before: `(C, H, W)`.
        after: `(C, H, W)`.
        homography: From pixels of `before` to pixels of `after`.
        side: Odd side of the box.
    """
    low_before, low_after = (torch.nn.functional.avg_pool2d(f.double(), side, stride=1) for f in (before, after))
    rows, columns = np.arange(low_after.shape[1]) + side / 2, np.arange(low_after.shape[2]) + side / 2
    y, x = np.meshgrid(rows, columns, indexing="ij")
    u, v, w = np.linalg.inv(homography) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    u, v = u / w - side / 2, v / w - side / 2
    known = (u >= 0) & (u <= low_before.shape[2] - 1) & (v >= 0) & (v <= low_before.shape[1] - 1) & (w > 0)
    grid = np.stack([2 * u / (low_before.shape[2] - 1) - 1, 2 * v / (low_before.shape[1] - 1) - 1], axis=-1)
    looked_up = torch.nn.functional.grid_sample(
        low_before[None], torch.from_numpy(grid[known])[None, None], align_corners=True
    )[0, :, 0]
    met = low_after.flatten(1)[:, torch.from_numpy(known)]
    return _cosine(looked_up, met)


def _cosine(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum() / (first.square().sum() * second.square().sum()).sqrt())
