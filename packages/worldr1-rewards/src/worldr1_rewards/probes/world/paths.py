"""Camera paths for every move of the vocabulary, written independently of the product's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MOVES = (
    "push in",
    "pull out",
    "move left",
    "move right",
    "orbit left",
    "orbit right",
    "pan left",
    "pan right",
    "fixed",
)
CHAINS = (("push in", "pan left"), ("move right", "push in"), ("orbit left", "pull out"), ("pan right", "move left"))
"""A few two-move prompts."""

AMOUNTS: Mapping[str, float] = {"push": 0.3, "pull": 0.3, "move": 0.2, "orbit": 24.0, "pan": 16.0}
"""Default amount of a whole segment: fractions of the scene depth, and degrees for orbit and pan."""

ORBIT_RADIUS = 0.8
"""Distance of the orbit's centre, as a fraction of the scene depth."""


def prompt_of(moves: str | Sequence[str], subject: str = "A room with simple objects.") -> str:
    """A prompt that commands the moves, e.g. `"Camera push in, then pan left. A room ..."`."""
    words = [moves] if isinstance(moves, str) else list(moves)
    return f"Camera {', then '.join(words)}. {subject}"


def yaw(degrees: float) -> Tensor:
    """Rotation `(4, 4)` about the vertical axis; positive turns the view to the right."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 0], matrix[0, 2], matrix[2, 0], matrix[2, 2] = c, s, -s, c
    return matrix


def shift(x: float = 0.0, z: float = 0.0) -> Tensor:
    """Translation `(4, 4)`."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 3], matrix[2, 3] = x, z
    return matrix


def partial_move(move: str, progress: float, amount: float, scene_depth: float) -> Tensor:
    """Pose `(4, 4)` after `progress` in [0, 1] of one move that starts at the identity."""
    word, _, direction = move.partition(" ")
    side = {"left": -1.0, "right": 1.0}.get(direction, 0.0)
    if word == "push":
        return shift(z=amount * scene_depth * progress)
    if word == "pull":
        return shift(z=-amount * scene_depth * progress)
    if word == "move":
        return shift(x=side * amount * scene_depth * progress)
    if word == "pan":
        return yaw(side * amount * progress)
    if word == "orbit":
        radius = ORBIT_RADIUS * scene_depth
        return shift(z=radius) @ yaw(-side * amount * progress) @ shift(z=-radius)
    if word == "fixed":
        return torch.eye(4, dtype=torch.float64)
    raise ValueError(f"Unknown move {move!r}. Allowed: {MOVES}.")


def led_astray(move: str, pose: Tensor, degrees: float) -> Tensor:
    """Pose `(4, 4)` of a move whose direction is off by `degrees`; at 180 it is the opposite move.

    A push or pull bends to its side, by a turn about the vertical axis; every other move leads upwards and over, by a
    roll about the optical axis, so that a pan to the left becomes a tilt and then a pan to the right.
    """
    if move.startswith(("push", "pull")):
        turn = yaw(degrees)
    else:
        angle = math.radians(degrees if move.endswith("left") else -degrees)
        turn = torch.eye(4, dtype=torch.float64)
        turn[0, 0] = turn[1, 1] = math.cos(angle)
        turn[0, 1], turn[1, 0] = -math.sin(angle), math.sin(angle)
    return turn @ pose @ turn.T


def camera_path(
    moves: str | Sequence[str],
    num_frames: int,
    *,
    scene_depth: float,
    amounts: Mapping[str, float] | None = None,
    scale: float = 1.0,
    astray: float = 0.0,
) -> Tensor:
    """Camera-to-world poses `(T, 4, 4)` float64 that start at the identity; several moves share the frames evenly.

    Args:
        moves: A move, or moves in order.
        num_frames: T.
        scene_depth: Unit of the translational amounts.
        amounts: Overrides of `AMOUNTS`, by the move's first word.
        scale: Factor on every amount, e.g. 0.4 for a clip that goes less than half the way.
        astray: Degrees by which every move leads in another direction, see `led_astray`.
    """
    words = [moves] if isinstance(moves, str) else list(moves)
    totals = {**AMOUNTS, **(amounts or {})}
    poses = []
    for frame in range(num_frames):
        position = frame / max(num_frames - 1, 1) * len(words)
        pose = torch.eye(4, dtype=torch.float64)
        for index, move in enumerate(words):
            progress = min(max(position - index, 0.0), 1.0)
            amount = scale * totals.get(move.partition(" ")[0], 0.0)
            step = partial_move(move, progress, amount, scene_depth)
            pose = pose @ (led_astray(move, step, astray) if astray else step)
        poses.append(pose)
    return torch.stack(poses)
