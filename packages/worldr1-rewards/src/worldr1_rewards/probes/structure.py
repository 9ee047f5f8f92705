"""Scenes that look right from the camera's path but have wrong structure, which the meta-view reward should detect.

A scene is the middle frame of a rendered clip with its exact depth. Each flaw changes depth alone, so that the frame's
own camera sees the same picture to the pixel, and only a view off the path can tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.component import load_component
from worldr1_core.compose import WeightedReward
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.judge import Judge
from worldr1_core.placement import PlacedReward
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.registry import Registry
from worldr1_core.reward import Requirement, RewardInputs, Score
from worldr1_rewards.probes.plan import Case, to_clip
from worldr1_rewards.probes.rank_statistics import auc, mean, spearman
from worldr1_rewards.probes.world import WorldClip, build_scene, render_world
from worldr1_rewards.probes.world.raycaster import surfaces
from worldr1_rewards.probes.world.scenes import NUM_ROOM_SURFACES
from worldr1_rewards.reconstructors.depth_render import KeyFrames, render_view

NUM_PATCHES = 14
PATCH_RADIUS = 0.06
"""Radius of a floater or a hole, as a share of the width."""
FLOATER_NEARNESS, HOLE_DISTANCE = 1.8, 0.4
"""Factor on a patch's inverse depth: in front of its surface, or behind it."""

SHOWN = frozenset({Requirement.RECONSTRUCTION, Requirement.JUDGE})
"""Inputs of a reward that shows reconstructions to a judge."""


@dataclass(frozen=True, kw_only=True)
class DepthScene(Reconstruction):
    """One frame with depth, drawn from anywhere; what it does not show stays uncovered.

    Attributes:
        key: The frame.
    """

    key: KeyFrames

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """See `Reconstruction.render`."""
        poses = invert_pose(c2w.double()).to(self.key.poses)
        views = [render_view(self.key, pose, intrinsics.to(self.key.poses), size) for pose in poses]
        frames, coverage, depth = (torch.stack(parts) for parts in zip(*views, strict=True))
        return Render(frames, coverage, depth)

    def rerender(self) -> Render:
        """The clip's own views."""
        assert self.trajectory.intrinsics is not None
        size = (int(self.key.frames.shape[-2]), int(self.key.frames.shape[-1]))
        return self.render(self.trajectory.c2w, self.trajectory.intrinsics, size)


def depth_scene(world: WorldClip) -> DepthScene:
    """The scene of a clean clip as its middle frame shows it, with exact depth."""
    middle = len(world.frames) // 2
    size = (int(world.frames.shape[-2]), int(world.frames.shape[-1]))
    pose = invert_pose(world.c2w)[middle : middle + 1].float()
    key = KeyFrames(
        world.frames[middle : middle + 1], 1 / world.depth[middle : middle + 1], pose, world.intrinsics.float()
    )
    path = CameraTrajectory(world.c2w, world.intrinsics, size, world.scene_depth)
    return DepthScene(trajectory=path, depth=world.depth, key=key)


def _patches(size: tuple[int, int], severity: float, seed: int) -> Tensor:
    """Mask `(H, W)` of round patches, more of them the higher the severity."""
    generator = torch.Generator().manual_seed(seed)
    centres = 0.1 + 0.8 * torch.rand(NUM_PATCHES, 2, generator=generator)
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    chosen = centres[: max(1, math.ceil(severity * NUM_PATCHES))]
    near = [torch.hypot(x - cx * width, y - cy * height) < PATCH_RADIUS * width for cy, cx in chosen.tolist()]
    return torch.stack(near).any(0)


def floaters(inverse: Tensor, world: WorldClip, severity: float) -> Tensor:
    """Fragments of surfaces hang in the air before them."""
    patches = _patches((inverse.shape[-2], inverse.shape[-1]), severity, world.seed)
    return torch.where(patches, FLOATER_NEARNESS * inverse, inverse)


def holes(inverse: Tensor, world: WorldClip, severity: float) -> Tensor:
    """Patches of surfaces lie far behind them: from the side, one looks through."""
    patches = _patches((inverse.shape[-2], inverse.shape[-1]), severity, world.seed + 1)
    return torch.where(patches, HOLE_DISTANCE * inverse, inverse)


def billboards(inverse: Tensor, world: WorldClip, severity: float) -> Tensor:
    """Every object, and the room around them, is a flat card that faces the camera."""
    scene = build_scene(world.family, world.seed)
    size = (int(world.frames.shape[-2]), int(world.frames.shape[-1]))
    shown = surfaces(scene, world.c2w[len(world.c2w) // 2], world.intrinsics, size)
    cards = torch.where(shown < NUM_ROOM_SURFACES, -1, shown)
    flat = inverse.clone()
    for card in cards.unique().tolist():
        mask = cards == card
        flat[..., mask] = inverse[..., mask].median()
    return (1 - severity) * inverse + severity * flat


FLAWS: Mapping[str, Callable[[Tensor, WorldClip, float], Tensor]] = {
    "floaters": floaters,
    "holes": holes,
    "billboards": billboards,
}
"""Name -> inverse depth of the flawed scene."""


def flawed_scene(world: WorldClip, flaw: str, severity: float) -> DepthScene:
    """The scene of a clean clip with a flaw.

    Args:
        world: A clean clip whose camera travels.
        flaw: One of `FLAWS`.
        severity: In (0, 1].

    Raises:
        UserError: There is no such flaw.
    """
    if flaw not in FLAWS:
        raise UserError(f"Unknown flaw {flaw!r}. Allowed: {sorted(FLAWS)}.")
    scene = depth_scene(world)
    inverse = FLAWS[flaw](scene.key.inverse_depth, world, severity)
    depth = world.depth.clone()
    depth[len(depth) // 2] = 1 / inverse[0]
    return replace(scene, key=replace(scene.key, inverse_depth=inverse), depth=depth)


def probe_structure(
    rewards: Sequence[WeightedReward], judge: Judge | None, cases: Sequence[Case], severities: Sequence[float],
    size: tuple[int, int], num_frames: int,
) -> dict[str, Any]:  # fmt: skip
    """Scores of flawed scenes by every reward that shows reconstructions to a judge; empty where none does.

    Args:
        rewards: Of a composition.
        judge: The composition's.
        cases: Scenes; those whose camera does not travel are left out.
        severities: Ascending, in (0, 1]; the last is the full one.
        size: (H, W) of the clips.
        num_frames: T of the clips.

    Returns:
        Reward -> flaw -> `auc` at full severity, mean `spearman`, mean `scores` by severity and `without_score`.
    """
    chosen = [w for w in rewards if w.reward.requires >= SHOWN]
    travelling = [case for case in cases if not all(move.startswith(("pan", "fixed")) for move in case.moves)]
    report: dict[str, Any] = {}
    for weighted in chosen:
        grades: dict[tuple[str, float], list[float]] = {}
        for index, case in enumerate(travelling):
            world = render_world(case.family, case.moves, seed=case.seed, size=size, num_frames=num_frames)
            scenes = {("clean", 0.0): depth_scene(world)}
            scenes |= {(flaw, s): flawed_scene(world, flaw, s) for flaw in FLAWS for s in severities}
            for key, scene in scenes.items():
                grades.setdefault(key, []).append(_grade(weighted, judge, world, scene, f"structure {index}"))
        report[weighted.name] = {flaw: _flaw_report(flaw, grades, severities) for flaw in FLAWS if grades}
    return report


def unprobed_structure(rewards: Sequence[WeightedReward], registry: Registry) -> list[str]:
    """Return the rewards that `probe_structure` leaves out because they run elsewhere, where no scene can be sent.

    Args:
        rewards: Of a composition.
        registry: Where names are looked up.
    """
    placed = [w.name for w in rewards if isinstance(w.reward, PlacedReward)]
    return [name for name in placed if load_component(registry, "reward", name).requires >= SHOWN]  # type: ignore[attr-defined]


def _grade(weighted: WeightedReward, judge: Judge | None, world: WorldClip, scene: DepthScene, name: str) -> float:
    try:
        answer = weighted.reward.score(to_clip(world, name), RewardInputs(scene, judge))
    except ScoreUnavailable:
        return math.nan
    return answer.value if isinstance(answer, Score) else float(answer)


def _flaw_report(flaw: str, grades: Mapping[tuple[str, float], list[float]], severities: Sequence[float]) -> Any:
    columns = [grades["clean", 0.0], *(grades[flaw, severity] for severity in severities)]
    steps = [0.0, *severities]
    return {
        "auc": auc(columns[0], columns[-1]),
        "spearman": mean([spearman(steps, list(row)) for row in zip(*columns, strict=True)]),
        "scores": {f"{step:.2f}": mean(column) for step, column in zip(steps, columns, strict=True)},
        "without_score": sum(math.isnan(value) for column in columns for value in column),
    }
