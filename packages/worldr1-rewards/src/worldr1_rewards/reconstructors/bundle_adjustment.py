"""Joint refinement of cameras and of the depth of single points by their photometric error.

Every point has its own inverse depth, so that the step from an object to the wall behind it biases nothing. The
depths are eliminated point by point (Schur complement), which leaves a small dense system in the poses. The idea of
few points with patches, several hosts and joint optimisation is that of direct sparse odometry (Engel et al., 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_rewards.reconstructors.points import PATCH, Patches, Points, Projection
from worldr1_rewards.reconstructors.pyramid import Level
from worldr1_rewards.reconstructors.rigid import adjoint, apply_structure, camera_motion, orthonormalise, retract

OUTSIDE = 0.6
"""Cost of a point that leaves the view, as a share of the largest cost."""
MIN_RHO, MAX_RHO = 0.01, 20.0
"""Bounds of inverse depth, in units where it is about 1."""
MAX_CHANGE = 0.2
"""Largest relative change of an inverse depth in one step."""
NOISE_FLOOR = 0.004
"""Least residual, in grey values of 1, that is taken to be noise: about one 8-bit step."""
GEOMETRIC_NOISE = 0.25
"""Standard deviation in pixels of what interpolation and the shape of a patch get wrong; times gradient it is a
residual. Without it silhouettes, whose strong edges slide over the background, would outvote surfaces."""
START_KERNEL = 4.0
"""Robust kernel, in standard deviations, before anything is known."""
KERNEL_SIGMAS = 2.0
"""Residual beyond which the robust kernel ignores a patch, in units of the median residual."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cameras and point depths.

    Attributes:
        poses: `(T, 4, 4)` float64 world-to-camera.
        rho: `(H, N)` inverse depth of each point in its host.
        cost: Robust cost per observation.
    """

    poses: Tensor
    rho: Tensor
    cost: float


@dataclass(frozen=True, slots=True)
class _System:
    cost: Tensor
    point_cost: Tensor
    pose_pose: Tensor
    pose_force: Tensor
    pose_depth: Tensor
    depth_depth: Tensor
    depth_force: Tensor


class PointAligner:
    """The photometric cost of points at one pyramid level, its gradient and its Gauss-Newton matrix.

    Args:
        level: Grey frames with gradients.
        points: Pixels to follow.
        scale: Size of `level` relative to the one the points are given at.
    """

    def __init__(self, level: Level, points: Points, scale: float) -> None:
        self.level, self.points = level, points
        self.patches = Patches(level, points, scale)
        self.affine_brightness = torch.ones(level.images.shape[0], len(points.hosts), 2).to(level.images)
        self.affine_brightness[..., 1] = 0
        values = self.patches.strength
        self.noise = NOISE_FLOOR
        self.inverse_variance = 1 / (self.noise**2 + GEOMETRIC_NOISE**2 * values)
        self.kernel = START_KERNEL
        self.outside = OUTSIDE * self.kernel**2

    def relative(self, poses: Tensor) -> Tensor:
        """`(T, H, 4, 4)` poses from hosts to frames."""
        return poses[:, None] @ invert_pose(poses[self.points.hosts])[None]

    def residuals(self, poses: Tensor, rho: Tensor) -> tuple[Tensor, Tensor, Projection]:
        """Residuals `(T, M, H, N)`, visibility `(T, H, N)` and where the patches land."""
        projection = self.patches.project(self.relative(poses).to(rho.dtype), rho)
        values = self.patches.sample(self.level.images, projection)[:, 0]
        return values - self.expected(), self.patches.weight * projection.inside, projection

    def expected(self) -> Tensor:
        """Host patches in the affine brightness of every frame, `(T, M, H, N)`."""
        gain, offset = self.affine_brightness[:, None, :, :, None].unbind(3)
        return torch.addcmul(offset, gain, self.patches.values)

    def calibrate(self, poses: Tensor, rho: Tensor) -> None:
        """Set the robust kernel from the spread of the residuals, and the brightness of frames relative to hosts."""
        residual, visible, _ = self.residuals(poses, rho)
        energy = residual.square().mean(1)
        low_gradient = self.patches.strength <= self.patches.strength.median()
        seen = energy[(visible > 0) & low_gradient]
        if seen.numel() == 0:
            return
        self.noise = max(float(seen.median()) ** 0.5, NOISE_FLOOR)
        self.inverse_variance = 1 / (self.noise**2 + GEOMETRIC_NOISE**2 * self.patches.strength)
        energy = energy * self.inverse_variance
        self.kernel = KERNEL_SIGMAS * max(float(energy[visible > 0].median()) ** 0.5, 0.5)
        share = self.kernel**2 / (energy + self.kernel**2)
        self.outside = float((share * energy * visible).sum() / visible.sum())
        weight = visible * share**2
        self._fit_tone(residual + self.expected(), weight)

    def _fit_tone(self, values: Tensor, weight: Tensor) -> None:
        """Weighted regression of frames' patches on hosts' patches, drawn to gain 1 and offset 0."""
        total = weight.sum(-1).clamp(min=1e-6)
        host, seen = self.patches.values.mean(0), values.mean(1)
        host_mean, seen_mean = (weight * host).sum(-1) / total, (weight * seen).sum(-1) / total
        host_off = self.patches.values - host_mean[:, None, :, None]
        seen_off = values - seen_mean[:, None, :, None]
        spread = (weight * host_off.square().mean(1)).sum(-1)
        together = (weight * (host_off * seen_off).mean(1)).sum(-1)
        prior = 0.01 * total * spread.max() / total.max()
        gain = ((together + prior) / (spread + prior).clamp(min=1e-9)).clamp(0.5, 2.0)
        self.affine_brightness = torch.stack([gain, seen_mean - gain * host_mean], -1)

    def evaluate(self, poses: Tensor, rho: Tensor) -> _System:
        """Cost and normal equations at `poses` and `rho`."""
        relative = self.relative(poses).to(rho.dtype)
        projection = self.patches.project(relative, rho)
        sampled = self.patches.sample(self.level.stack, projection)
        visible = self.patches.weight * projection.inside
        residual, grad_x, grad_y = sampled[:, 0] - self.expected(), sampled[:, 1], sampled[:, 2]
        energy = residual.square().mean(1) * self.inverse_variance
        share = self.kernel**2 / (energy + self.kernel**2)
        robust = share * energy * visible + self.outside * (self.patches.weight - visible)
        cost = robust.sum() / self.patches.weight.sum().clamp(min=1)

        weight = visible * share.square() * (self.inverse_variance / len(PATCH))
        focal_x, focal_y = self.patches.focal
        structure = (
            (grad_x * grad_x).sum(1) * weight * focal_x**2,
            (grad_x * grad_y).sum(1) * weight * (focal_x * focal_y),
            (grad_y * grad_y).sum(1) * weight * focal_y**2,
        )
        pull_x, pull_y = (grad_x * residual).sum(1) * weight, (grad_y * residual).sum(1) * weight
        force = torch.stack([pull_x * focal_x, pull_y * focal_y], 2)
        motion = camera_motion(projection.x, projection.y, rho / projection.depth)
        shift = relative[:, :, :3, 3, None] / projection.depth[:, :, None]
        parallax = shift[:, :, :2] - torch.stack([projection.x, projection.y], 2) * shift[:, :, 2:]
        return self._assemble(cost, robust.sum(0), relative, structure, force, motion, parallax)

    def _assemble(
        self,
        cost: Tensor,
        point_cost: Tensor,
        relative: Tensor,
        structure: tuple[Tensor, Tensor, Tensor],
        force: Tensor,
        motion: Tensor,
        parallax: Tensor,
    ) -> _System:
        """Sum terms per observation into pose blocks, pose-depth rows and the depths' diagonal."""
        num_frames, num_hosts, _, num_points = parallax.shape
        hosts = torch.tensor(self.points.hosts, device=parallax.device)
        pulled = apply_structure(structure, motion)
        flat = motion.flatten(3)
        pair = (flat @ pulled.flatten(3).transpose(-1, -2)).double()
        pair_force = (flat @ force.flatten(2)[..., None]).double()
        coupled = pulled[..., 0, :] * parallax[..., :1, :] + pulled[..., 1, :] * parallax[..., 1:, :]
        transport = adjoint(relative)
        back = transport.transpose(-1, -2)

        blocks = pair.new_zeros(num_frames, 6, num_frames, 6)
        frames = torch.arange(num_frames, device=pair.device)
        across = pair @ transport.double()
        blocks[frames, :, frames] += pair.sum(1)
        blocks[:, :, hosts] -= across.permute(0, 2, 1, 3)
        blocks[hosts] -= across.permute(1, 3, 0, 2)
        blocks[hosts, :, hosts] += (back.double() @ across).sum(0)
        vector = pair_force.sum(1).squeeze(-1)
        vector[hosts] -= (back.double() @ pair_force).sum(0).squeeze(-1)
        depth = coupled.transpose(0, 1).contiguous()
        returned = back.permute(1, 2, 0, 3).flatten(2) @ depth.flatten(1, 2)
        depth[torch.arange(num_hosts, device=hosts.device), hosts] -= returned
        size = 6 * num_frames
        curvature = apply_structure(structure, parallax[:, :, None])[:, :, 0]
        return _System(
            cost,
            point_cost,
            blocks.reshape(size, size),
            vector.reshape(size),
            depth.reshape(num_hosts, size, num_points),
            (parallax * curvature).sum((0, 2)),
            (parallax * force).sum((0, 2)),
        )


def bundle_adjust(
    aligner: PointAligner,
    poses: Tensor,
    rho: Tensor,
    *,
    num_iterations: int,
    translate: bool = True,
    turn: bool = True,
    free_depth: bool = True,
    fixed_frames: tuple[int, ...] = (0,),
) -> Estimate:
    """Descend by Levenberg-Marquardt.

    Args:
        aligner: The cost.
        poses: `(T, 4, 4)` float64 world-to-camera.
        rho: `(H, N)` inverse depth.
        num_iterations: Evaluations of the cost.
        translate: Whether cameras may move; if not, only rotations are refined.
        turn: Whether cameras may turn; if not, only translations are refined.
        free_depth: Whether depths are refined too.
        fixed_frames: Frames whose pose stays.
    """
    active = _active_columns(poses, translate, turn, fixed_frames)
    current = aligner.evaluate(poses, rho)
    damping = 1e-3
    depth_damping = torch.full_like(rho, 1e-3)
    for _ in range(num_iterations):
        twist, change = _solve(current, active, damping, depth_damping if free_depth else None)
        new_poses = orthonormalise(retract(twist) @ poses)
        limit = MAX_CHANGE * rho
        new_rho = (rho + change.clamp(-limit, limit)).clamp(MIN_RHO, MAX_RHO)
        trial = aligner.evaluate(new_poses, new_rho)
        worse = trial.point_cost > current.point_cost
        depth_damping = torch.where(worse, depth_damping * 10, depth_damping / 5).clamp(1e-4, 0.1)
        if float(trial.cost) < float(current.cost):
            gain = 1 - float(trial.cost) / max(float(current.cost), 1e-20)
            poses, rho, current = new_poses, new_rho, trial
            damping = max(damping / 5, 1e-7)
            if gain < 1e-4:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    return Estimate(poses, rho, float(current.cost))


def _active_columns(poses: Tensor, translate: bool, turn: bool, fixed_frames: tuple[int, ...]) -> Tensor:
    active = torch.ones(poses.shape[0], 6, dtype=torch.bool, device=poses.device)
    active[list(fixed_frames)] = False
    if not translate:
        active[:, :3] = False
    if not turn:
        active[:, 3:] = False
    return active.flatten().nonzero()[:, 0]


def _solve(system: _System, active: Tensor, damping: float, depth_damping: Tensor | None) -> tuple[Tensor, Tensor]:
    """Twists `(T, 6)` and changes of inverse depth `(H, N)`."""
    matrix, vector = system.pose_pose[active][:, active], system.pose_force[active]
    matrix = matrix + torch.diag(matrix.diagonal() * damping + 1e-9)
    twist = torch.zeros_like(system.pose_force)
    change = torch.zeros_like(system.depth_depth)
    if depth_damping is None:
        twist[active] = -torch.linalg.solve(matrix, vector)
        return twist.unflatten(0, (-1, 6)), change
    rows = system.pose_depth[:, active]
    depth = system.depth_depth * (1 + damping + depth_damping)
    stiffness = depth + (1e-3 * depth.mean() + 1e-12)
    weighted = rows / stiffness[:, None]
    matrix = matrix - (weighted @ rows.transpose(1, 2)).sum(0).double()
    vector = vector - (weighted @ system.depth_force[..., None]).sum((0, 2)).double()
    step = -torch.linalg.solve(matrix, vector)
    twist[active] = step
    change = -(system.depth_force + step.to(rows.dtype) @ rows) / stiffness
    return twist.unflatten(0, (-1, 6)), change


def search_depth(aligner: PointAligner, poses: Tensor, candidates: Tensor, frames: list[int]) -> Tensor:
    """Inverse depth `(H, N)` of every point by trying candidates and interpolating the best three.

    Args:
        aligner: The cost; its kernel decides how much one frame may say against a depth.
        poses: `(T, 4, 4)` world-to-camera.
        candidates: `(D,)` inverse depths, evenly spaced.
        frames: Frames to compare with.
    """
    relative = aligner.relative(poses)[frames].to(candidates.dtype)
    images, weight = aligner.level.images[frames], aligner.patches.weight[frames]
    expected = aligner.expected()[frames]
    kernel = aligner.kernel**2
    costs = []
    for value in candidates:
        projection = aligner.patches.project(relative, value.expand(weight.shape[1:]))
        difference = aligner.patches.sample(images, projection)[:, 0] - expected
        energy = difference.square().mean(1) * aligner.inverse_variance
        robust = torch.where(projection.inside, kernel * energy / (energy + kernel), OUTSIDE * kernel)
        costs.append((robust * weight).sum(0))
    return interpolate_minimum(torch.stack(costs), candidates)


def interpolate_minimum(costs: Tensor, candidates: Tensor) -> Tensor:
    """Position of the minimum over dimension 0 of `costs` `(D, …)`, refined by a parabola; candidates evenly spaced."""
    best = costs.argmin(0, keepdim=True).clamp(1, len(candidates) - 2)
    low, middle, high = (costs.gather(0, best + step)[0] for step in (-1, 0, 1))
    bend = (low - 2 * middle + high).clamp(min=1e-12)
    offset = (0.5 * (low - high) / bend).clamp(-1, 1)
    return candidates[best[0]] + offset * (candidates[1] - candidates[0])
