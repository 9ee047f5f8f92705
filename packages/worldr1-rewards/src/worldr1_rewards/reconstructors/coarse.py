"""Dense alignment at thumbnail size, many starts at once.

The photometric cost of a whole clip has many minima. At 16 to 40 pixels on each side it is cheap enough to descend from
every kind of camera move at the same time, so no start is ever taken from the commanded path, which would bias the
estimate. The unknowns are one pose per frame and a small grid of inverse depth in the middle frame; each iteration is
a robust Gauss-Newton step with Levenberg-Marquardt damping, batched over the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_rewards.reconstructors.pyramid import Level, sample
from worldr1_rewards.reconstructors.rigid import apply_structure, camera_motion, pixel_rays, retract

KERNEL = 1.0
"""Residual, in units of local contrast, at which the robust kernel (Geman-McClure) starts to give up on a pixel."""
OUTSIDE = 0.6
"""Cost of a pixel that leaves the view, as a share of the largest cost: leaving must not pay."""
MIN_DEPTH, MAX_DEPTH = 0.05, 6.0
"""Bounds of inverse depth where its mean is 1."""


@dataclass(slots=True)
class Candidates:
    """S hypotheses about a clip.

    Attributes:
        poses: `(S, T, 4, 4)` from the key frame's camera to every frame's.
        grid: `(S, gh, gw)` inverse depth in the key frame, mean 1.
        moves: `(S,)` bool, whether translation is allowed; without it depth means nothing.
        turns: `(S,)` bool, whether rotation is allowed.
        origin: `(S,)` int, what kind of start the candidate grew from.
        cost: `(S,)` robust photometric cost per pixel and frame.
    """

    poses: Tensor
    grid: Tensor
    moves: Tensor
    turns: Tensor
    origin: Tensor
    cost: Tensor

    def select(self, index: Tensor) -> Candidates:
        """The candidates at `index`."""
        return Candidates(
            self.poses[index],
            self.grid[index],
            self.moves[index],
            self.turns[index],
            self.origin[index],
            self.cost[index],
        )


@dataclass(frozen=True, slots=True)
class _System:
    """Normal equations of S candidates: poses first, then the depth grid."""

    cost: Tensor
    matrix: Tensor
    vector: Tensor


def upsampling(grid: tuple[int, int], size: tuple[int, int], like: Tensor) -> Tensor:
    """Bilinear interpolation from a depth grid to pixels as a matrix `(h * w, gh * gw)`."""
    count = grid[0] * grid[1]
    units = torch.eye(count, dtype=like.dtype, device=like.device).reshape(count, 1, *grid)
    return functional.interpolate(units, size, mode="bilinear", align_corners=True).reshape(count, -1).T.contiguous()


def curvature(grid: tuple[int, int], like: Tensor) -> Tensor:
    """Quadratic form `(gh * gw, gh * gw)` that sums squared second differences along rows and columns."""
    index = torch.arange(grid[0] * grid[1], device=like.device).reshape(grid)
    matrix = torch.zeros(index.numel(), index.numel(), dtype=like.dtype, device=like.device)
    stencil = like.new_tensor([1.0, -2.0, 1.0])
    for triple in ((index[:-2], index[1:-1], index[2:]), (index[:, :-2], index[:, 1:-1], index[:, 2:])):
        for nodes in torch.stack([part.reshape(-1) for part in triple], -1):
            matrix[nodes[:, None], nodes[None]] += stencil[:, None] * stencil[None]
    return matrix


class DenseAligner:
    """Normal equations of the dense alignment at one pyramid level.

    Args:
        level: Locally normalised frames with gradients.
        key: Index of the key frame.
        grid: Nodes of the inverse depth grid, `(gh, gw)`.
        smoothness: Weight of the curvature of inverse depth; planes are free.
    """

    def __init__(self, level: Level, key: int, grid: tuple[int, int], smoothness: float) -> None:
        self.level, self.key, self.grid = level, key, grid
        num_frames = level.images.shape[0]
        self.others = [t for t in range(num_frames) if t != key]
        self.stack = level.stack[self.others]
        self.reference = level.images[key]
        self.rays = pixel_rays(level.intrinsics, *level.size).reshape(-1, 3).T.contiguous()
        self.focal, self.centre = level.intrinsics.diagonal()[:2].tolist(), level.intrinsics[:2, 2].tolist()
        self.basis = upsampling(grid, level.size, level.images)
        self.roughness = smoothness * curvature(grid, level.images) / self.basis.shape[1]

    def evaluate(self, poses: Tensor, grid: Tensor) -> _System:
        """Cost and normal equations at `poses` `(S, T, 4, 4)` and `grid` `(S, gh, gw)`."""
        nodes = grid.flatten(1)
        rho = (nodes @ self.basis.T).clamp(min=0.02)
        relative = poses[:, self.others].transpose(0, 1)
        moved = torch.addcmul(relative[..., :3, :3] @ self.rays, relative[..., :3, 3:], rho[:, None])
        z = moved[..., 2, :].clamp(min=1e-3)
        position = moved[..., :2, :] / z[..., None, :]
        structure, force, cost = self._photometry(position, moved[..., 2, :])
        motion = camera_motion(position[..., 0, :], position[..., 1, :], rho / z)
        shift = relative[..., :3, 3, None] / z[..., None, :]
        return self._assemble(cost, nodes, structure, force, motion, shift[..., :2, :] - position * shift[..., 2:, :])

    def _photometry(self, position: Tensor, z: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """Compare warped frames with the key frame.

        Args:
            position: `(t, S, 2, N)` normalised coordinates.
            z: `(t, S, N)` depth times inverse depth in the key frame.

        Returns:
            Weighted structure tensors (entries xx, xy, yy, each `(t, S, N)`) and forces `(t, S, 2, N)` by the
            normalised coordinates, and the cost `(S,)`.
        """
        (height, width), channels = self.level.size, self.reference.shape[0]
        focal_x, focal_y = self.focal
        x = focal_x * position[..., 0, :] + self.centre[0]
        y = focal_y * position[..., 1, :] + self.centre[1]
        visible = ((x - width / 2).abs() < width / 2 - 0.5) & ((y - height / 2).abs() < height / 2 - 0.5) & (z > 0.05)
        warped = sample(self.stack, x, y)
        residual = warped[:, :channels] - self.reference.reshape(1, channels, 1, -1)
        grad_x, grad_y = warped[:, channels : 2 * channels], warped[:, 2 * channels :]
        energy = residual.square().mean(1)
        share = KERNEL**2 / (energy + KERNEL**2)
        weight = visible * share.square() / channels
        cost = torch.where(visible, share * energy, OUTSIDE * KERNEL**2).mean((0, 2))
        structure = (
            (grad_x * grad_x).sum(1) * weight * focal_x**2,
            (grad_x * grad_y).sum(1) * weight * (focal_x * focal_y),
            (grad_y * grad_y).sum(1) * weight * focal_y**2,
        )
        pull_x, pull_y = (grad_x * residual).sum(1) * weight, (grad_y * residual).sum(1) * weight
        return structure, torch.stack([pull_x * focal_x, pull_y * focal_y], 2), cost

    def _assemble(
        self,
        cost: Tensor,
        nodes: Tensor,
        structure: tuple[Tensor, Tensor, Tensor],
        force: Tensor,
        motion: Tensor,
        parallax: Tensor,
    ) -> _System:
        """Sum per-pixel terms into the normal equations, with the depth prior and the gauge."""
        num_others, num_starts, _, num_pixels = parallax.shape
        num_poses, num_nodes = 6 * num_others, nodes.shape[1]
        scale = 1 / (num_others * num_pixels)
        pulled = apply_structure(structure, motion)
        flat = motion.flatten(3)
        pose_pose = (flat @ pulled.flatten(3).transpose(-1, -2)) * scale
        pose_force = (flat @ force.flatten(2)[..., None]).squeeze(-1) * scale
        coupled = pulled[..., 0, :] * parallax[..., :1, :] + pulled[..., 1, :] * parallax[..., 1:, :]
        pose_depth = coupled @ self.basis * scale
        curvature = apply_structure(structure, parallax[:, :, None])[:, :, 0]
        depth_depth = (parallax * curvature).sum((0, 2)) * scale
        depth_force = (parallax * force).sum((0, 2)) @ self.basis * scale
        matrix = cost.new_zeros(num_starts, num_poses + num_nodes, num_poses + num_nodes)
        blocks = matrix[:, :num_poses, :num_poses].unflatten(1, (num_others, 6)).unflatten(3, (num_others, 6))
        blocks.diagonal(dim1=1, dim2=3).copy_(pose_pose.permute(1, 2, 3, 0))
        coupling = pose_depth.transpose(0, 1).reshape(num_starts, num_poses, num_nodes)
        matrix[:, :num_poses, num_poses:] = coupling
        matrix[:, num_poses:, :num_poses] = coupling.transpose(1, 2)
        prior = self.roughness + 1e-3 / num_nodes * torch.eye(num_nodes, dtype=cost.dtype, device=cost.device)
        gauge = torch.full_like(prior, 1 / num_nodes**2)
        data = (self.basis.T * depth_depth[:, None]) @ self.basis
        matrix[:, num_poses:, num_poses:] = data + prior + gauge
        pull = nodes @ self.roughness + 1e-3 / num_nodes * (nodes - 1) + (nodes.mean(1, keepdim=True) - 1) / num_nodes
        vector = torch.cat([pose_force.transpose(0, 1).reshape(num_starts, -1), depth_force + pull], 1)
        smooth = 0.5 * torch.einsum("sn,nm,sm->s", nodes, self.roughness, nodes)
        return _System(cost + smooth, matrix, vector)


def resize_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse depth grids `(S, gh, gw)` at another resolution."""
    return functional.interpolate(grid[:, None], size, mode="bilinear", align_corners=True)[:, 0]


def refine(
    level: Level,
    key: int,
    candidates: Candidates,
    grid: tuple[int, int],
    num_iterations: int,
    *,
    smooth_path: bool = False,
    smoothness: float = 0.02,
) -> Candidates:
    """Descend from every candidate.

    Args:
        level: Locally normalised frames with gradients.
        key: Index of the key frame.
        candidates: S hypotheses.
        grid: Nodes of inverse depth to solve for.
        num_iterations: Evaluations of the cost.
        smooth_path: Whether all frames share one quadratic twist, instead of a free pose each.
        smoothness: Weight of the curvature of inverse depth; planes are free.
    """
    aligner = DenseAligner(level, key, grid, smoothness)
    poses, nodes = candidates.poses, resize_grid(candidates.grid, grid)
    space = _search_space(aligner, candidates, smooth_path)
    current = aligner.evaluate(poses, nodes)
    damping = torch.full_like(current.cost, 1e-3)
    for _ in range(num_iterations):
        step = _solve(current, space, damping)
        new_poses, new_nodes = _apply(aligner, poses, nodes, step)
        trial = aligner.evaluate(new_poses, new_nodes)
        better = trial.cost < current.cost
        poses = torch.where(better[:, None, None, None], new_poses, poses)
        nodes = torch.where(better[:, None, None], new_nodes, nodes)
        gain = torch.where(better, (current.cost - trial.cost) / current.cost.clamp(min=1e-12), 0 * trial.cost)
        current = _System(
            torch.where(better, trial.cost, current.cost),
            torch.where(better[:, None, None], trial.matrix, current.matrix),
            torch.where(better[:, None], trial.vector, current.vector),
        )
        damping = torch.where(better, (damping / 5).clamp(min=1e-6), (damping * 8).clamp(max=1e4))
        if bool((better & (gain < 1e-4)).all()):
            break
    return Candidates(poses, nodes, candidates.moves, candidates.turns, candidates.origin, current.cost)


def _search_space(aligner: DenseAligner, candidates: Candidates, smooth_path: bool) -> Tensor:
    """`(S, P + G, p + G)` basis of the steps a candidate may take; columns that it may not take are zero."""
    others, num_nodes = aligner.others, aligner.basis.shape[1]
    like = aligner.basis
    if smooth_path:
        time = like.new_tensor([t - aligner.key for t in others]) / max(len(others), 1)
        powers = torch.stack([time, time**2], 1)
    else:
        powers = torch.eye(len(others), dtype=like.dtype, device=like.device)
    pose_basis = torch.kron(powers, torch.eye(6, dtype=like.dtype, device=like.device))
    space = torch.block_diag(pose_basis, torch.eye(num_nodes, dtype=like.dtype, device=like.device))
    column = torch.arange(space.shape[1], device=like.device)
    depth = column >= pose_basis.shape[1]
    turning = ~depth & (column % 6 >= 3)
    allowed = (candidates.moves[:, None] | turning) & (candidates.turns[:, None] | ~turning)
    return space * allowed[:, None].to(like.dtype)


def _solve(system: _System, space: Tensor, damping: Tensor) -> Tensor:
    """Damped Gauss-Newton step `(S, P + G)`."""
    matrix = (space.transpose(1, 2) @ system.matrix @ space).double()
    vector = (space.transpose(1, 2) @ system.vector[..., None]).double()
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    absent = (diagonal == 0).double()
    matrix = matrix + torch.diag_embed(diagonal * damping[:, None] + 1e-7 + absent)
    step = -torch.linalg.solve(matrix, vector)
    return (space @ step.to(space.dtype)).squeeze(-1)


def _apply(aligner: DenseAligner, poses: Tensor, nodes: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Take a step and restore the gauge (mean inverse depth 1)."""
    num_poses = 6 * len(aligner.others)
    twists = step[:, :num_poses].unflatten(1, (-1, 6))
    new_poses = poses.clone()
    new_poses[:, aligner.others] = retract(twists) @ poses[:, aligner.others]
    new_nodes = (nodes + step[:, num_poses:].reshape(nodes.shape)).clamp(MIN_DEPTH, MAX_DEPTH)
    mean = new_nodes.mean((1, 2), keepdim=True)
    new_poses[..., :3, 3] *= mean
    return new_poses, new_nodes / mean
