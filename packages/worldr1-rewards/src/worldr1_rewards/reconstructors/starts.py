"""From a clip to one moving and one purely rotating hypothesis, without any hint of what was commanded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_rewards.reconstructors.coarse import Candidates, refine
from worldr1_rewards.reconstructors.pyramid import Level, blur, halvings, limit_size, normalise_locally, with_gradients
from worldr1_rewards.reconstructors.rigid import retract, rotation_angle

SEARCH_SIDE = 40
"""Longest side in pixels at which candidates are told apart; the first descent runs at half of it."""
ANY, ORBIT, TURN, SHIFT = range(4)
"""Origins of candidates; the best of the last three survive every selection but the last."""
DUPLICATE = 0.03
"""Largest difference of pose entries at which two candidates count as the same."""


@dataclass(frozen=True, slots=True)
class Starts:
    """Where the fine stage begins.

    Attributes:
        moving: Hypotheses with translation, best first.
        turning: The best hypothesis that only rotates.
        key: Index of the key frame that candidates' depth belongs to.
    """

    moving: Candidates
    turning: Candidates
    key: int


def move_starts(num_frames: int, key: int, like: Tensor) -> Candidates:
    """Smooth paths through every kind of camera move, in both directions.

    Some may only rotate and some only translate: the richer model has valleys where a turn imitates a shift.
    Translations are in units of scene depth over the whole clip, rotations in radians.
    """
    twists = [torch.zeros(6)]
    for axis, amount in ((0, 0.35), (1, 0.3), (2, 0.35), (3, 0.25), (4, 0.35)):
        for sign in (1.0, -1.0):
            twists.append(sign * amount * torch.eye(6)[axis])
    for amount in (0.25, 0.45):
        for sign in (1.0, -1.0):
            twists.append(torch.tensor([sign * amount, 0.0, 0.0, 0.0, -sign * amount, 0.0]))
    origins = [ANY] * (len(twists) - 4) + [ORBIT] * 4
    rotations = [twist for twist in twists if not bool(twist[:3].any())]
    translations = [twist for twist in twists if not bool(twist[3:].any())][1:]
    everything = torch.stack(twists + rotations + translations).to(like)
    moves = torch.ones(len(everything), dtype=torch.bool, device=like.device)
    turns = moves.clone()
    moves[len(twists) : len(twists) + len(rotations)] = False
    turns[len(twists) + len(rotations) :] = False
    time = (torch.arange(num_frames, device=like.device, dtype=like.dtype) - key) / max(num_frames - 1, 1)
    poses = retract(time[None, :, None] * everything[:, None])
    grid = torch.ones(len(everything), 3, 3, dtype=like.dtype, device=like.device)
    origins += [TURN] * len(rotations) + [SHIFT] * len(translations)
    origin = torch.tensor(origins, device=like.device)
    return Candidates(
        poses, grid, moves, turns, origin, torch.zeros(len(everything), dtype=like.dtype, device=like.device)
    )


def find_starts(frames: Tensor, intrinsics: Tensor) -> Starts:
    """Search for the camera path at thumbnail size.

    Args:
        frames: `(T, 3, H, W)` RGB, T >= 2.
        intrinsics: `(3, 3)` in pixels of `frames`.
    """
    key = frames.shape[0] // 2
    small, matrix = limit_size(frames, intrinsics, SEARCH_SIDE)
    tiny, tiny_matrix = halvings(small, matrix, min_side=8)[min(1, len(halvings(small, matrix, 8)) - 1)]
    candidates = move_starts(frames.shape[0], key, frames)
    smoothed = _level(blur(tiny, 1.0), tiny_matrix)
    candidates = refine(smoothed, key, candidates, (3, 3), 10, smooth_path=True)
    candidates = distinct(candidates, 6)
    candidates = refine(smoothed, key, candidates, (4, 4), 8)
    candidates = refine(_level(tiny, tiny_matrix), key, candidates, (4, 4), 8)
    candidates = distinct(candidates, 4)
    candidates = refine(_level(small, matrix), key, candidates, (6, 6), 8)
    candidates.turns = torch.ones_like(candidates.turns)
    candidates = refine(_level(small, matrix), key, candidates, (12, 12), 10, smoothness=0.002)
    order = candidates.cost.argsort(stable=True)
    candidates = candidates.select(order)
    moving = candidates.select(_shortlist(candidates))
    turning = candidates.select((~candidates.moves).nonzero()[:1, 0])
    return Starts(moving, turning, key)


def _level(images: Tensor, intrinsics: Tensor) -> Level:
    return with_gradients(normalise_locally(images, max(2.0, min(images.shape[-2:]) / 8)), intrinsics)


def distinct(candidates: Candidates, count: int) -> Candidates:
    """The best `count` free candidates that differ from each other, and the best of each protected origin."""
    kept: list[int] = []
    free = candidates.moves & candidates.turns
    for index in candidates.cost.argsort(stable=True).tolist():
        if not bool(free[index]) or len(kept) == count:
            continue
        differences = [(candidates.poses[index] - candidates.poses[other]).abs().max() for other in kept]
        if all(float(difference) > DUPLICATE for difference in differences):
            kept.append(index)
    for kind in (ORBIT, TURN, SHIFT):
        members = (candidates.origin == kind).nonzero()[:, 0]
        best = int(members[candidates.cost[members].argmin()])
        if best not in kept:
            kept.append(best)
    return candidates.select(torch.tensor(kept, device=candidates.cost.device))


def _shortlist(candidates: Candidates) -> Tensor:
    """The best moving candidate, the next that differs in its rotation, and those grown from a shift or an orbit."""
    moving = candidates.moves.nonzero()[:, 0].tolist()
    rotations = candidates.poses[:, -1, :3, :3] @ candidates.poses[:, 0, :3, :3].transpose(-1, -2)
    kept: list[int] = []
    for index in moving:
        gaps = [float(rotation_angle(rotations[index] @ rotations[other].T)) for other in kept]
        if (len(kept) < 2 or int(candidates.origin[index]) in (ORBIT, SHIFT)) and all(gap > DUPLICATE for gap in gaps):
            kept.append(index)
    return torch.tensor(kept, device=candidates.cost.device)
