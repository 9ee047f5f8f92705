"""Joint refinement of cameras and of the depth of single points by their photometric error.

Every point has its own inverse depth, so that the step from an object to the wall behind it biases nothing. The
depths are eliminated point by point (Schur complement), which leaves a small dense system in the poses. The idea of
few points with patches, several hosts and joint optimisation is that of direct sparse odometry (Engel et al., 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_rewards.reconstructors.points import Patches, Points
from worldr1_rewards.reconstructors.pyramid import Level
from worldr1_rewards.reconstructors.rigid import (
    adjoint,
    apply_structure,
    camera_motion,
    invert,
    orthonormalise,
    retract,
)

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
"""Where the robust kernel gives up on a patch, in units of the median residual."""


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
        self.tone = torch.ones(level.images.shape[0], len(points.hosts), 2).to(level.images)
        self.tone[..., 1] = 0
        values = self.patches.strength
        self.noise = NOISE_FLOOR
        self.inverse_variance = 1 / (self.noise**2 + GEOMETRIC_NOISE**2 * values)
        self.kernel = START_KERNEL
        self.outside = OUTSIDE * self.kernel**2

    def relative(self, poses: Tensor) -> Tensor:
        """`(T, H, 4, 4)` poses from hosts to frames."""
        return poses[:, None] @ invert(poses[self.points.hosts])[None]

    def residuals(self, poses: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals `(T, H, N, M)` and visibility `(T, H, N)`."""
        landing = self.patches.project(self.relative(poses).to(rho.dtype), rho)
        values = self.patches.look(self.level.images, landing)[:, 0]
        return values - self.expected(), self.patches.visible(landing)

    def expected(self) -> Tensor:
        """Host patches in the tone of every frame, `(T, H, N, M)`."""
        return self.tone[:, :, :1, None] * self.patches.values + self.tone[:, :, 1:, None]

    def calibrate(self, poses: Tensor, rho: Tensor) -> None:
        """Set the robust kernel from the residuals' own spread, and the tone of every frame relative to every host."""
        residual, visible = self.residuals(poses, rho)
        energy = residual.square().mean(-1)
        calm = self.patches.strength <= self.patches.strength.median()
        seen = energy[(visible > 0) & calm]
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
        host, seen = self.patches.values.mean(-1), values.mean(-1)
        host_mean, seen_mean = (weight * host).sum(-1) / total, (weight * seen).sum(-1) / total
        host_off = self.patches.values - host_mean[..., None, None]
        seen_off = values - seen_mean[..., None, None]
        spread = (weight * host_off.square().mean(-1)).sum(-1)
        together = (weight * (host_off * seen_off).mean(-1)).sum(-1)
        prior = 0.01 * total * spread.max() / total.max()
        gain = ((together + prior) / (spread + prior).clamp(min=1e-9)).clamp(0.5, 2.0)
        self.tone = torch.stack([gain, seen_mean - gain * host_mean], -1)

    def evaluate(self, poses: Tensor, rho: Tensor) -> _System:
        """Cost and normal equations at `poses` and `rho`."""
        relative = self.relative(poses).to(rho.dtype)
        landing = self.patches.project(relative, rho)
        looked = self.patches.look(self.level.stack, landing)
        visible = self.patches.visible(landing)
        residual = looked[:, 0] - self.expected()
        energy = residual.square().mean(-1) * self.inverse_variance
        share = self.kernel**2 / (energy + self.kernel**2)
        weight = visible * share**2
        robust = share * energy * visible + self.outside * (self.patches.weight - visible)
        cost = robust.sum() / self.patches.weight.sum().clamp(min=1)

        matrix = self.level.intrinsics
        grad_x, grad_y = looked[:, 1] * matrix[0, 0], looked[:, 2] * matrix[1, 1]
        weight = weight * self.inverse_variance / residual.shape[-1]
        cross = weight * (grad_x * grad_y).sum(-1)
        structure = weight * grad_x.square().sum(-1), cross, weight * grad_y.square().sum(-1)
        force = torch.stack([(grad_x * residual).sum(-1), (grad_y * residual).sum(-1)], -1) * weight[..., None]
        motion = camera_motion(landing.position, rho / landing.depth)
        shift = relative[:, :, None, :2, 3] - landing.position * relative[:, :, None, 2:3, 3]
        parallax = shift / landing.depth[..., None]
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
        """Sum terms per observation into pose blocks, pose-depth columns and the depths' diagonal."""
        num_frames, num_hosts, num_points = parallax.shape[:3]
        hosts = self.points.hosts
        pulled = apply_structure(structure, motion)
        flat = motion.flatten(2, 3).transpose(-1, -2)
        pair = (flat @ pulled.flatten(2, 3)).double()
        pair_force = (flat @ force.flatten(2, 3)[..., None]).squeeze(-1).double()
        coupled = pulled[..., 0, :] * parallax[..., :1] + pulled[..., 1, :] * parallax[..., 1:]
        transport = adjoint(relative)
        back = transport.transpose(-1, -2)

        blocks = pair.new_zeros(num_frames, 6, num_frames, 6)
        vector = pair.new_zeros(num_frames, 6)
        depth = coupled.new_zeros(num_hosts, num_points, num_frames, 6)
        frames = torch.arange(num_frames, device=pair.device)
        blocks[frames, :, frames] += pair.sum(1)
        vector += pair_force.sum(1)
        depth += coupled.permute(1, 2, 0, 3)
        returned = coupled @ transport
        for index, host in enumerate(hosts):
            across = pair[:, index] @ transport[:, index].double()
            blocks[:, :, host] -= across
            blocks[host] -= across.permute(2, 0, 1)
            blocks[host, :, host] += (back[:, index].double() @ across).sum(0)
            vector[host] -= (back[:, index].double() @ pair_force[:, index, :, None]).sum(0).squeeze(-1)
            depth[index, :, host] -= returned[:, index].sum(0)
        size = 6 * num_frames
        depth_depth = (parallax * apply_structure(structure, parallax[..., None])[..., 0]).sum((0, 3))
        depth_force = (parallax * force).sum((0, 3))
        return _System(
            cost,
            point_cost,
            blocks.reshape(size, size),
            vector.reshape(size),
            depth.flatten(2),
            depth_depth,
            depth_force,
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
    caution = torch.full_like(rho, 1e-3)
    for _ in range(num_iterations):
        twist, change = _solve(current, active, damping, caution if free_depth else None)
        new_poses = orthonormalise(retract(twist) @ poses)
        limit = MAX_CHANGE * rho
        new_rho = (rho + change.clamp(-limit, limit)).clamp(MIN_RHO, MAX_RHO)
        trial = aligner.evaluate(new_poses, new_rho)
        worse = trial.point_cost > current.point_cost
        caution = torch.where(worse, caution * 10, caution / 5).clamp(1e-4, 0.1)
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


def _solve(system: _System, active: Tensor, damping: float, caution: Tensor | None) -> tuple[Tensor, Tensor]:
    """Twists `(T, 6)` and changes of inverse depth `(H, N)`."""
    matrix, vector = system.pose_pose[active][:, active], system.pose_force[active]
    columns = system.pose_depth[:, :, active].flatten(0, 1)
    matrix = matrix + torch.diag(matrix.diagonal() * damping + 1e-9)
    depth = system.depth_depth.flatten()
    if caution is not None:
        depth = depth * (1 + damping + caution.flatten())
    stiffness = depth + (1e-3 * depth.mean() + 1e-12)
    if caution is not None:
        weighted = columns / stiffness[:, None]
        matrix = matrix - (weighted.T @ columns).double()
        vector = vector - (weighted.T @ system.depth_force.flatten()).double()
    step = -torch.linalg.solve(matrix, vector)
    twist = torch.zeros_like(system.pose_force)
    twist[active] = step
    change = torch.zeros_like(system.depth_depth)
    if caution is not None:
        change = -(system.depth_force.flatten() + columns @ step.to(columns.dtype)) / stiffness
        change = change.reshape(system.depth_depth.shape)
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
    images = aligner.level.images[frames]
    expected = aligner.expected()[frames]
    kernel = aligner.kernel**2
    costs = []
    for value in candidates:
        rho = value.expand(aligner.points.weight.shape)
        landing = aligner.patches.project(relative, rho)
        difference = aligner.patches.look(images, landing)[:, 0] - expected
        energy = difference.square().mean(-1) * aligner.inverse_variance
        visible = aligner.patches.visible(landing, frames)
        robust = kernel * energy / (energy + kernel)
        costs.append((robust * visible + OUTSIDE * kernel * (aligner.patches.weight[frames] - visible)).sum(0))
    return interpolate_minimum(torch.stack(costs), candidates)


def interpolate_minimum(costs: Tensor, candidates: Tensor) -> Tensor:
    """Position of the minimum over dimension 0 of `costs` `(D, …)`, refined by a parabola; candidates evenly spaced."""
    best = costs.argmin(0, keepdim=True).clamp(1, len(candidates) - 2)
    low, middle, high = (costs.gather(0, best + step)[0] for step in (-1, 0, 1))
    bend = (low - 2 * middle + high).clamp(min=1e-12)
    offset = (0.5 * (low - high) / bend).clamp(-1, 1)
    return candidates[best[0]] + offset * (candidates[1] - candidates[0])
