"""Errors of a camera path against the truth, written independently of the product's own metrics."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def rotation_errors(estimate: Tensor, truth: Tensor) -> np.ndarray:
    """Geodesic angle of every frame in degrees, `(T,)`; both paths start at the identity."""
    relative = np.einsum("tji,tjk->tik", estimate[:, :3, :3].numpy(), truth[:, :3, :3].numpy())
    chord = np.linalg.norm(relative - np.eye(3), axis=(1, 2)) / (2 * np.sqrt(2))
    return np.degrees(2 * np.arcsin(np.clip(chord, 0, 1)))


def path_error(estimate: Tensor, truth: Tensor) -> float:
    """Root mean square distance of the centres after the best rigid motion and scale, over the path's extent."""
    source = estimate[:, :3, 3].numpy().astype(float)
    target = truth[:, :3, 3].numpy().astype(float)
    extent = np.linalg.norm(target[None] - target[:, None], axis=-1).max()
    source, target = source - source.mean(0), target - target.mean(0)
    left, singular, right = np.linalg.svd(target.T @ source)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    scale = (singular * np.diag(flip)).sum() / (source**2).sum()
    aligned = scale * source @ (left @ flip @ right).T
    return float(np.sqrt(((aligned - target) ** 2).sum(1).mean()) / extent)
