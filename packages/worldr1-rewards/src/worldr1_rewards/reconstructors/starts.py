"""From a clip to one moving and one purely rotating hypothesis, without any hint of what was commanded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_core.camera.geometry import rotation_angle
from worldr1_rewards.reconstructors.coarse import Candidates, refine, resize_grid
from worldr1_rewards.reconstructors.pyramid import Level, blur, halvings, limit_size, normalise_locally, with_gradients
from worldr1_rewards.reconstructors.rigid import retract

SEARCH_SIDE = 40
"""Longest side in pixels at which candidates are told apart; the first descent runs at half of it."""
ANY, ORBIT, TURN, SHIFT, GROWN = range(5)
"""Origins of candidates; the best of all but the first survive every selection but the last."""
NUM_GROWN = 4
"""Paths that are followed outward from the key frame together."""
DUPLICATE = 0.03
"""Largest difference of pose entries at which two candidates count as the same."""


@dataclass(frozen=True, slots=True)
class Starts:
    """Starting points of the fine stage.

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
    tiny, tiny_matrix = halvings(small, matrix, min_side=8)[:2][-1]
    starts = move_starts(frames.shape[0], key, frames)
    smoothed = _level(blur(tiny, 1.0), tiny_matrix)
    candidates = refine(smoothed, key, starts, (3, 3), 7, smooth_path=True)
    candidates = distinct(candidates, 6)
    candidates = refine(smoothed, key, candidates, (4, 4), 8)
    candidates = join(candidates, grow(smoothed, key, starts))
    candidates = refine(_level(tiny, tiny_matrix), key, candidates, (4, 4), 8)
    candidates = distinct(candidates, 3)
    candidates = refine(_level(small, matrix), key, candidates, (6, 6), 5)
    candidates.turns = torch.ones_like(candidates.turns)
    candidates = refine(_level(small, matrix), key, candidates, (8, 8), 4, smoothness=0.002)
    order = candidates.cost.argsort(stable=True)
    candidates = candidates.select(order)
    moving = candidates.select(_shortlist(candidates))
    turning = candidates.select((~candidates.moves).nonzero()[:1, 0])
    return Starts(moving, turning, key)


def grow(level: Level, key: int, starts: Candidates) -> Candidates:
    """Follow the camera outward from the key frame, frame by frame.

    A path that turns a corner is no smooth twist; but from one frame to the next it goes on nearly as before.

    Args:
        level: Smoothed frames, locally normalised, T of them.
        key: Index of the key frame.
        starts: Where the few frames around the key frame begin.
    """
    num_frames = level.images.shape[0]
    low, high = max(key - 1, 0), min(key + 1, num_frames - 1)
    free = starts.select((starts.moves & starts.turns).nonzero()[:, 0])
    free.origin = torch.full_like(free.origin, GROWN)
    free.poses = free.poses[:, low : high + 1]
    grown = refine(level.select(list(range(low, high + 1))), key - low, free, (3, 3), 6)
    while low > 0 or high < num_frames - 1:
        if low > 0:
            grown.poses, low = torch.cat([_next_pose(grown.poses, 0, 1)[:, None], grown.poses], 1), low - 1
        if high < num_frames - 1:
            grown.poses, high = torch.cat([grown.poses, _next_pose(grown.poses, -1, -2)[:, None]], 1), high + 1
        grown = refine(level.select(list(range(low, high + 1))), key - low, grown, (3, 3), 6)
        grown = distinct(grown, NUM_GROWN)
    return grown


def _next_pose(poses: Tensor, last: int, previous: int) -> Tensor:
    """The pose after `last` at constant velocity, `(S, 4, 4)`."""
    return poses[:, last] @ torch.linalg.inv(poses[:, previous]) @ poses[:, last]


def join(first: Candidates, second: Candidates) -> Candidates:
    """Both sets of candidates; the second's depth is brought to the first's grid."""
    grid = resize_grid(second.grid, (first.grid.shape[1], first.grid.shape[2]))
    return Candidates(
        torch.cat([first.poses, second.poses]),
        torch.cat([first.grid, grid]),
        torch.cat([first.moves, second.moves]),
        torch.cat([first.turns, second.turns]),
        torch.cat([first.origin, second.origin]),
        torch.cat([first.cost, second.cost]),
    )


def _level(images: Tensor, intrinsics: Tensor) -> Level:
    return with_gradients(normalise_locally(images, max(2.0, min(images.shape[-2:]) / 8)), intrinsics)


def distinct(candidates: Candidates, count: int) -> Candidates:
    """The best `count` of the free candidates and of those that were grown, and the best of each protected origin."""
    free = candidates.moves & candidates.turns
    grown = candidates.origin == GROWN
    kept = _differing(candidates, free & ~grown, count) + _differing(candidates, grown, count)
    for kind in (ORBIT, TURN, SHIFT):
        members = (candidates.origin == kind).nonzero()[:, 0]
        if len(members) > 0:
            best = int(members[candidates.cost[members].argmin()])
            kept += [best] if best not in kept else []
    return candidates.select(torch.tensor(kept, device=candidates.cost.device))


def _differing(candidates: Candidates, allowed: Tensor, count: int) -> list[int]:
    """Indices of the best `count` allowed candidates whose poses differ."""
    kept: list[int] = []
    for index in candidates.cost.argsort(stable=True).tolist():
        if not bool(allowed[index]) or len(kept) == count:
            continue
        differences = [(candidates.poses[index] - candidates.poses[other]).abs().max() for other in kept]
        if all(float(difference) > DUPLICATE for difference in differences):
            kept.append(index)
    return kept


def _shortlist(candidates: Candidates) -> Tensor:
    """Moving candidates that differ in their rotation: the best two of the smooth and of the grown, shifts, orbits."""
    rotations = candidates.poses[:, -1, :3, :3] @ candidates.poses[:, 0, :3, :3].transpose(-1, -2)
    kept: list[int] = []
    taken = {True: 0, False: 0}
    for index in candidates.moves.nonzero()[:, 0].tolist():
        origin = int(candidates.origin[index])
        if taken[origin == GROWN] >= 2 and origin not in (ORBIT, SHIFT):
            continue
        gaps = [float(rotation_angle(rotations[index] @ rotations[other].T)) for other in kept]
        if all(gap > DUPLICATE for gap in gaps):
            kept.append(index)
            taken[origin == GROWN] += 1
    return torch.tensor(kept, device=candidates.cost.device)
