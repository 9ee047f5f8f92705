"""Model selection between a resting, a turning and a moving camera, on the tracked pixels.

A moving camera with free depths can imitate a turning one, and a turning one a resting one, so the richer model always
fits at least as well. It is preferred only where it explains the same observations clearly better: by more than the
extra unknowns could by fitting noise, and by a displacement that can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_rewards.reconstructors.bundle_adjustment import PointAligner

MOVE_RATIO = 1.2
TURN_RATIO = 1.2
"""Least ratio of costs at which the richer model is believed; free depths alone reach 1.1 to 1.3 on a pan."""
MOVE_PIXELS = 0.6
"""Least displacement that translation must add; free depths alone reach 0.3 on a pan."""
TURN_PIXELS = 0.1
LINK = 0.6
"""Least correlation, both ways, at which two hosts show the same scene; across a cut one way reached 0.6."""


@dataclass(frozen=True, slots=True)
class MotionEvidence:
    """Comparison of the three kinds of motion.

    Attributes:
        kind: `"moving"`, `"turning"` or `"resting"`.
        move_ratio: Robust cost of the best rotation over that of the full model, on observations both see.
        turn_ratio: Robust cost of a camera at rest over that of the best rotation.
        parallax: Root mean square displacement in pixels that the full model adds to the best rotation.
        turn: Root mean square displacement in pixels by the best rotation.
        agreement: `(T,)` correlation of every frame's patches with those of other frames, in [-1, 1].
    """

    kind: str
    move_ratio: float
    turn_ratio: float
    parallax: float
    turn: float
    agreement: Tensor

    @property
    def obvious(self) -> bool:
        """True if the camera moves so clearly that a better estimate of the rotation could not change the decision."""
        return self.move_ratio > 2 * MOVE_RATIO and self.parallax > 3 * MOVE_PIXELS


def compare_motions(aligner: PointAligner, moving: Tensor, rho: Tensor, turning: Tensor) -> MotionEvidence:
    """Choose the simplest motion that explains the clip.

    Args:
        aligner: The photometric cost at the finest level.
        moving: `(T, 4, 4)` poses of the full model.
        rho: `(H, N)` inverse depths of the full model.
        turning: `(T, 4, 4)` poses of the best rotation.
    """
    resting = torch.eye(4).to(turning).expand_as(turning)
    flat = torch.ones_like(rho)
    aligner.calibrate(moving, rho)
    full, full_seen, full_place = _look(aligner, moving, rho)
    turn, turn_seen, turn_place = _look(aligner, turning, flat)
    rest, rest_seen, rest_place = _look(aligner, resting, flat)
    both = full_seen * turn_seen
    move_ratio = _ratio(turn, full, both)
    turn_ratio = _ratio(rest, turn, turn_seen * rest_seen)
    parallax = _distance(full_place, turn_place, both)
    turned = _distance(turn_place, rest_place, turn_seen * rest_seen)
    if move_ratio > MOVE_RATIO and parallax > MOVE_PIXELS:
        kind, poses, depth = "moving", moving, rho
    elif turn_ratio > TURN_RATIO and turned > TURN_PIXELS:
        kind, poses, depth = "turning", turning, flat
    else:
        kind, poses, depth = "resting", resting, flat
    return MotionEvidence(kind, move_ratio, turn_ratio, parallax, turned, frame_agreement(aligner, poses, depth))


def _look(aligner: PointAligner, poses: Tensor, rho: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Robust cost and visibility `(T, H, N)`, and positions `(T, H, N, 2)` of points in pixels, origin free."""
    residual, visible, projection = aligner.residuals(poses, rho)
    energy = residual.square().mean(1) * aligner.inverse_variance
    kernel = aligner.kernel**2
    focal = rho.new_tensor(aligner.patches.focal)
    return kernel * energy / (energy + kernel), visible, torch.stack([projection.x, projection.y], -1) * focal


def _ratio(simple: Tensor, rich: Tensor, seen: Tensor) -> float:
    return float((simple * seen).sum() / (rich * seen).sum().clamp(min=1e-12)) if bool(seen.any()) else 1.0


def _distance(first: Tensor, second: Tensor, seen: Tensor) -> float:
    squared = (first - second).square().sum(-1).clamp(max=1e4)
    return float(((squared * seen).sum() / seen.sum().clamp(min=1)).sqrt())


def frame_agreement(aligner: PointAligner, poses: Tensor, rho: Tensor) -> Tensor:
    """Correlation `(T,)` between patches in a frame and the same patches in their hosts; 0 where none is seen."""
    residual, visible, _ = aligner.residuals(poses, rho)
    host = aligner.patches.values.expand_as(residual)
    seen = residual + aligner.expected()
    weight = (visible * aligner.inverse_variance)[:, None]
    total = weight.sum((1, 3), keepdim=True).clamp(min=1e-12) * host.shape[1]
    host = host - (weight * host).sum((1, 3), keepdim=True) / total
    seen = seen - (weight * seen).sum((1, 3), keepdim=True) / total
    together = (weight * host * seen).sum((1, 3))
    norm = ((weight * host**2).sum((1, 3)) * (weight * seen**2).sum((1, 3))).sqrt()
    correlation = torch.where(norm > 0, together / norm.clamp(min=1e-20), torch.zeros_like(norm))
    return correlation[:, _linked_hosts(correlation, aligner.points.hosts)].amax(1)


def _linked_hosts(correlation: Tensor, hosts: list[int]) -> list[int]:
    """The largest set of hosts that see the same scene, directly or through each other.

    A cut leaves two sets that agree within themselves; frames are then judged by one of them only.
    """
    linked = correlation[hosts] >= LINK
    linked = (linked & linked.T) | torch.eye(len(hosts), dtype=torch.bool, device=linked.device)
    reach = linked
    for _ in hosts:
        reach = (reach.float() @ linked.float()) > 0
    return reach[int(reach.sum(1).argmax())].nonzero()[:, 0].tolist()
