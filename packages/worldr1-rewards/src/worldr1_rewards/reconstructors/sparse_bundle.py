"""Bundle adjustment of tracked points: poses, points and, where it is unknown, the focal length.

COLMAP finds the tracks and a first model. This refinement makes it exact: a robust kernel (Cauchy) whose width follows
the residuals, a prior on an unknown focal length, and the uncertainty of the focal length from the normal equations,
with the points eliminated (Schur complement).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.focal_prior import FocalPrior
from worldr1_rewards.reconstructors.rigid import camera_motion, orthonormalise, retract

KERNEL_SIGMAS = 2.0
"""Width of the robust kernel in units of the median residual."""
MIN_KERNEL = 0.3
"""Least width of the robust kernel, in pixels: the accuracy of a feature."""
OUTLIER_KERNELS = 4.0
"""Residual, in widths of the kernel, beyond which an observation is dropped."""
MIN_DEPTH = 1e-3
BEHIND_COST = 8.0
"""Cost, in squared widths of the kernel, of a point that lies behind a camera that observes it."""
MIN_VIEWS = 2
SOFT_RADIUS = 0.5
"""Distance in pixels at which an observation counts as half explained."""


@dataclass(frozen=True, slots=True)
class SparseScene:
    """Cameras and tracked points.

    Attributes:
        poses: `(T, 4, 4)` float64 world-to-camera, frame 0 = identity.
        points: `(N, 3)` float64, in the coordinates of frame 0.
        observed: `(T, N, 2)` float64 pixel positions, NaN where a frame does not observe the point.
        intrinsics: `(3, 3)` float64 in pixels.
        error: Median distance in pixels between observed and projected positions.
        cost: Robust cost per observation, in squared pixels.
        focal_deviation: Standard deviation of the logarithm of the focal length, prior included; 0 where it is known.
    """

    poses: Tensor
    points: Tensor
    observed: Tensor
    intrinsics: Tensor
    error: float
    cost: float
    focal_deviation: float = 0.0

    @property
    def seen(self) -> Tensor:
        """`(T, N)` bool, which frame observes which point."""
        return self.observed[..., 0].isfinite()

    def inverse_depths(self, frame: int) -> Tensor:
        """Positive inverse z-depths of the points that a frame observes, `(n,)`."""
        z = (self.points @ self.poses[frame, :3, :3].T + self.poses[frame, :3, 3])[:, 2]
        return 1 / z[self.seen[frame] & (z > MIN_DEPTH)]


@dataclass(slots=True)
class _System:
    cost: float
    camera: Tensor
    camera_force: Tensor
    coupling: Tensor
    point: Tensor
    point_force: Tensor


def project(poses: Tensor, points: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel positions `(T, N, 2)` and z-depths `(T, N)` of `points` `(N, 3)` seen by `poses` `(T, 4, 4)`."""
    local = points @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]
    z = local[..., 2]
    normal = local[..., :2] / z.clamp(min=MIN_DEPTH)[..., None]
    return normal * intrinsics.diagonal()[:2] + intrinsics[:2, 2], z


def triangulated(scene: SparseScene) -> SparseScene:
    """The scene with its points where the rays of its cameras meet best, in the least squares of the image plane.

    Points that would lie behind one of their cameras, or whose rays are parallel, stay where they are.
    """
    normal = (scene.observed.nan_to_num() - scene.intrinsics[:2, 2]) / scene.intrinsics.diagonal()[:2]
    weight = scene.seen.to(normal.dtype)[..., None]
    # Each view says: (r_xy - n r_z) X = n t_z - t_xy.
    rows = weight[..., None] * (scene.poses[:, None, :2, :3] - normal[..., None] * scene.poses[:, None, 2:3, :3])
    values = weight * (normal * scene.poses[:, None, 2:3, 3] - scene.poses[:, None, :2, 3])
    matrix = torch.einsum("tnij,tnik->njk", rows, rows)
    vector = torch.einsum("tnij,tni->nj", rows, values)
    solved, failed = torch.linalg.solve_ex(matrix, vector)
    depths = solved @ scene.poses[:, 2, :3].T + scene.poses[:, 2, 3]
    fine = (failed == 0) & solved.isfinite().all(-1) & ((depths.T > MIN_DEPTH) | ~scene.seen).all(0)
    return replace(scene, points=torch.where(fine[:, None], solved, scene.points))


def residuals(scene: SparseScene) -> Tensor:
    """Distances in pixels `(T, N)` between projected and observed positions, NaN where nothing is observed."""
    pixels, z = project(scene.poses, scene.points, scene.intrinsics)
    distance = (pixels - scene.observed).norm(dim=-1)
    return torch.where((z > MIN_DEPTH) | ~scene.seen, distance, torch.full_like(distance, torch.inf))


def soft_inliers(distances: Tensor) -> float:
    """Number of observations that a model explains within the accuracy of features, each counted by 1 / (1 + r²/r0²).

    Comparable between models of the same matches, of whatever tracks: more is better.
    """
    seen = distances[distances.isfinite()]
    return float((1 / (1 + (seen / SOFT_RADIUS).square())).sum())


def adjust(
    scene: SparseScene, *, focal: FocalPrior | None = None, num_rounds: int = 3, num_iterations: int = 10
) -> SparseScene:
    """Refine a scene, and drop observations that no rigid scene explains.

    Args:
        scene: Where to start.
        focal: What is known of the focal length beforehand; `None` holds it fixed.
        num_rounds: Rounds with a kernel that follows the residuals.
        num_iterations: Evaluations of the cost in each round.
    """
    for _ in range(num_rounds):
        kernel = kernel_width(residuals(scene))
        scene = _descend(scene, kernel, focal, num_iterations)
        far = ~(residuals(scene) < OUTLIER_KERNELS * kernel)
        observed = scene.observed.masked_fill(far[..., None], torch.nan)
        keep = observed[..., 0].isfinite().sum(0) >= MIN_VIEWS
        scene = replace(scene, points=scene.points[keep], observed=observed[:, keep])
    return scene


def kernel_width(distances: Tensor) -> float:
    """Width of the robust kernel in pixels for residuals `(T, N)` that may hold NaN."""
    seen = distances[distances.isfinite()]
    middle = float(seen.median()) if seen.numel() else 0.0
    return max(KERNEL_SIGMAS * middle, MIN_KERNEL)


def _descend(scene: SparseScene, kernel: float, focal: FocalPrior | None, num_iterations: int) -> SparseScene:
    """Levenberg-Marquardt with the robust kernel held fixed."""
    poses, points, log_scale = scene.poses, scene.points, 0.0
    problem = _Problem(scene, kernel, focal)
    current = problem.evaluate(poses, points, log_scale)
    damping = 1e-3
    for _ in range(num_iterations):
        twist, change, focal_step = problem.solve(current, damping)
        trial_poses = orthonormalise(retract(twist) @ poses)
        trial_points, trial_scale = points + change, log_scale + focal_step
        trial = problem.evaluate(trial_poses, trial_points, trial_scale)
        if trial.cost < current.cost:
            gain = 1 - trial.cost / max(current.cost, 1e-20)
            poses, points, log_scale, current = trial_poses, trial_points, trial_scale, trial
            damping = max(damping / 5, 1e-8)
            if gain < 1e-6:
                break
        else:
            damping *= 10
            if damping > 1e4:
                break
    found = SparseScene(poses, points, scene.observed, problem.intrinsics(log_scale), 0.0, problem.mean_cost(current))
    distances = residuals(found)
    seen = distances[distances.isfinite()]
    return SparseScene(
        poses @ invert_pose(poses[:1]),
        points @ poses[0, :3, :3].T + poses[0, :3, 3],
        scene.observed,
        found.intrinsics,
        float(seen.median()) if seen.numel() else float("inf"),
        found.cost,
        problem.focal_deviation(current),
    )


class _Problem:
    """Robust squared reprojection errors, their gradient and their Gauss-Newton matrix."""

    def __init__(self, scene: SparseScene, kernel: float, focal: FocalPrior | None) -> None:
        self.seen, self.kernel, self.prior = scene.seen, kernel, focal
        self.observed = scene.observed.nan_to_num()
        self.start = scene.intrinsics
        self.num_frames = len(scene.poses)

    def intrinsics(self, log_scale: float) -> Tensor:
        scale = self.start.new_tensor(log_scale).exp()
        matrix = self.start.clone()
        matrix[0, 0] *= scale
        matrix[1, 1] *= scale
        return matrix

    def mean_cost(self, system: _System) -> float:
        return system.cost / max(int(self.seen.sum()), 1)

    def evaluate(self, poses: Tensor, points: Tensor, log_scale: float) -> _System:
        matrix = self.intrinsics(log_scale)
        focal = matrix.diagonal()[:2]
        local = points @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]
        z = local[..., 2].clamp(min=MIN_DEPTH)
        normal = local[..., :2] / z[..., None]
        offset = normal * focal + matrix[:2, 2] - self.observed
        energy = offset.square().sum(-1)
        share = self.kernel**2 / (energy + self.kernel**2)
        behind = local[..., 2] < MIN_DEPTH
        robust = torch.where(behind, energy.new_tensor(BEHIND_COST), -share.log()) * self.kernel**2
        cost = float((robust * self.seen).sum())
        weight = self.seen * share * ~behind
        return self._assemble(cost, poses, normal, z, offset, weight, focal, log_scale)

    def _assemble(
        self,
        cost: float,
        poses: Tensor,
        normal: Tensor,
        z: Tensor,
        offset: Tensor,
        weight: Tensor,
        focal: Tensor,
        log_scale: float,
    ) -> _System:
        num_frames, num_points = z.shape
        motion = camera_motion(normal[..., 0], normal[..., 1], 1 / z).permute(0, 3, 2, 1) * focal[:, None]
        by_local = torch.zeros(num_frames, num_points, 2, 3, dtype=z.dtype, device=z.device)
        by_local[..., 0, 0] = by_local[..., 1, 1] = 1
        by_local[..., 2] = -normal
        by_point = (by_local / z[..., None, None] * focal[:, None]) @ poses[:, None, :3, :3]
        by_focal = normal * focal
        size = 6 * num_frames + 1
        weighted = weight[..., None, None]
        camera = z.new_zeros(size, size)
        blocks = (weighted * motion).flatten(1, 2).transpose(1, 2) @ motion.flatten(1, 2)
        for t in range(num_frames):
            camera[6 * t : 6 * t + 6, 6 * t : 6 * t + 6] = blocks[t]
        across = (weighted[..., 0] * by_focal)[..., None, :] @ motion
        camera[-1, :-1] = across.sum((1, 2)).flatten()
        camera[:-1, -1] = camera[-1, :-1]
        camera[-1, -1] = (weight * by_focal.square().sum(-1)).sum()
        force = (weighted[..., 0] * offset)[..., None, :]
        camera_force = z.new_zeros(size)
        camera_force[:-1] = (force @ motion).sum((1, 2)).flatten()
        camera_force[-1] = (force[..., 0, :] * by_focal).sum()
        coupling = z.new_zeros(size, num_points, 3)
        coupling[:-1] = ((weighted * motion).transpose(-1, -2) @ by_point).transpose(1, 2).flatten(0, 1)
        coupling[-1] = ((weighted[..., 0] * by_focal)[..., None, :] @ by_point).sum((0, 2))
        point = ((weighted * by_point).transpose(-1, -2) @ by_point).sum(0)
        point_force = (force @ by_point).sum((0, 2))
        if self.prior is not None:
            pull, stiffness, extra = self.prior.terms(log_scale, float(self.start[0, 0]))
            noise = (self.kernel / KERNEL_SIGMAS) ** 2
            cost += noise * extra
            camera[-1, -1] += noise * stiffness
            camera_force[-1] += noise * pull
        return _System(cost, camera, camera_force, coupling, point, point_force)

    def _reduced(self, system: _System, damping: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normal equations of the cameras alone, and what the points need to follow."""
        diagonal = system.point.diagonal(dim1=-2, dim2=-1)
        ridge = damping * diagonal + 1e-9 * diagonal.mean().clamp(min=1e-12)
        inverse = torch.linalg.inv(system.point + torch.diag_embed(ridge))
        active = torch.arange(6, 6 * self.num_frames + (1 if self.prior is not None else 0))
        coupling = system.coupling[active]
        carried = torch.einsum("cni,nij->cnj", coupling, inverse)
        matrix = system.camera[active][:, active] - carried.flatten(1) @ coupling.flatten(1).T
        vector = system.camera_force[active] - carried.flatten(1) @ system.point_force.flatten()
        return matrix, vector, inverse, active

    def solve(self, system: _System, damping: float) -> tuple[Tensor, Tensor, float]:
        """Twists `(T, 6)`, moves of the points `(N, 3)` and the step of the focal length's logarithm."""
        matrix, vector, inverse, active = self._reduced(system, damping)
        matrix = matrix + torch.diag(system.camera.diagonal()[active] * damping + 1e-9)
        step = -torch.linalg.lstsq(matrix, vector[:, None]).solution[:, 0]
        whole = torch.zeros_like(system.camera_force)
        whole[active] = step
        pulled = system.point_force + torch.einsum("cni,c->ni", system.coupling, whole)
        change = -(inverse @ pulled[..., None])[..., 0]
        return whole[:-1].reshape(-1, 6), change, float(whole[-1])

    def focal_deviation(self, system: _System) -> float:
        """Standard deviation of the focal length's logarithm; observations have the noise that the kernel assumes."""
        if self.prior is None:
            return 0.0
        matrix, _, _, _ = self._reduced(system, 1e-9)
        # The scale of the scene is free: a pseudo-inverse leaves it out.
        variance = torch.linalg.pinv(matrix, hermitian=True, rtol=1e-10)[-1, -1]
        return float(variance.clamp(min=0).sqrt()) * self.kernel / KERNEL_SIGMAS
