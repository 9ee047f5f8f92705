r"""The camera words of a prompt, and the camera path that they command (paper, section 1 of the method).

A word is matched whole, in any case, in the order in which the words stand; `push in`, `push-in`, `push_in` and
`push   in` are the same word, `pushing in` and `push into` are none. Several moves share the clip's frames evenly.

Two readings needed a decision:

* "move left, pull out, then pan left" commands three moves, one after the other, as it says; prompts also use variants
  such as "move left, pull out, then pan right", which no composite covers. The composite, which does all three at
  once in a single segment, is selected by its name: `pull_left` or `pull left`, `pull_right` or `pull right`.
* `fixed` may belong to the scene ("a fixed bridge"). By default it counts wherever it stands, as the paper has it;
  with `strict=True` only sentences that contain the word "camera" are read. `fixed-wing` never counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics, pose, rotation_y
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, suggest


class Move(StrEnum):
    """One camera word; the value is its registered spelling."""

    PUSH_IN = "push_in"
    PULL_OUT = "pull_out"
    MOVE_LEFT = "move_left"
    MOVE_RIGHT = "move_right"
    ORBIT_LEFT = "orbit_left"
    ORBIT_RIGHT = "orbit_right"
    PAN_LEFT = "pan_left"
    PAN_RIGHT = "pan_right"
    PULL_LEFT = "pull_left"
    PULL_RIGHT = "pull_right"
    FIXED = "fixed"

    @property
    def phrase(self) -> str:
        """Spelling in prompts, e.g. `"push in"`."""
        return self.value.replace("_", " ")


SINGLE_MOVES = tuple(move for move in Move if move not in (Move.PULL_LEFT, Move.PULL_RIGHT))
"""The nine words for a single motion; camera accuracy chooses between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveConstants:
    """Camera motion of each word in one segment (the authors' released values).

    Attributes:
        scene_depth: Depth of the scene plane; the unit of every length below.
        push: Forward travel of `push in`, backward travel of `pull out`.
        move: Sideways travel of `move left` and `move right`.
        pan: Yaw of `pan left` and `pan right`, degrees.
        orbit_radius: Distance of the centre that `orbit left` and `orbit right` keep in view.
        orbit_arc: Arc that they travel, degrees.
        pull_move: Sideways travel of the composites `pull left` and `pull right`.
        pull_back: Their backward travel.
        pull_pan: Their yaw, degrees.
    """

    scene_depth: float = 1000.0
    push: float = 600.0
    move: float = 220.0
    pan: float = 14.0
    orbit_radius: float = 600.0
    orbit_arc: float = 24.0
    pull_move: float = 160.0
    pull_back: float = 300.0
    pull_pan: float = 8.0


DEFAULT_CONSTANTS = MoveConstants()

_GAP = r"[\s_-]+"
_PATTERN = re.compile(
    r"(?<![\w-])(?:" + "|".join(f"(?P<{m.value}>{m.value.replace('_', _GAP)})" for m in Move) + r")(?![\w-])",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?]+[.!?]*|[.!?]+")


def detect_moves(prompt: str, *, strict: bool = False) -> list[Move]:
    """The camera words of a prompt, in order.

    Args:
        prompt: Any text.
        strict: Read only the sentences that contain the word "camera".

    Example:
        >>> detect_moves("Camera push in, then pan left. A quiet harbour.")
        [<Move.PUSH_IN: 'push_in'>, <Move.PAN_LEFT: 'pan_left'>]
    """
    return [Move(str(match.lastgroup)) for match in _matches(prompt, strict)]


def strip_moves(prompt: str, *, strict: bool = False) -> str:
    """The prompt without its camera words and the connectives they leave behind.

    A leading sentence that only commands the camera ("Camera push in, then pan left.") disappears; elsewhere the words
    are cut out and the punctuation around them is closed up.

    Example:
        >>> strip_moves("Camera push in, then pan left. A quiet harbour.")
        'A quiet harbour.'
    """
    kept = []
    for sentence in _SENTENCE.findall(prompt):
        found = list(_matches(sentence, strict))
        if not found:
            kept.append(sentence)
            continue
        rest = _PATTERN.sub(" ", sentence)
        content = re.sub(
            r"\b(?:the|camera|then|and|slowly|transitioning|into|a|in)\b|[\W_]", "", rest, flags=re.IGNORECASE
        )
        if content:
            rest = re.sub(r"\s+([,.;:!?])", r"\1", rest)
            kept.append(re.sub(r"(?:[,;:]\s*(?:then\b)?\s*)+(?=[,.;:!?]|$)", "", rest))
    return " ".join("".join(kept).split())


def trajectory_from_prompt(
    prompt: str, num_frames: int, image_size: tuple[int, int] | None = None, *, strict: bool = False
) -> CameraTrajectory | None:
    """The camera path that a prompt commands, or `None` if it has no camera word.

    Args:
        prompt: Any text.
        num_frames: T.
        image_size: `(H, W)`, for the intrinsics (focal length 1.2 x width); without it they stay unknown.
        strict: See `detect_moves`.

    Raises:
        TrajectoryError: The clip is too short for the number of moves.
    """
    moves = detect_moves(prompt, strict=strict)
    return trajectory_from_moves(moves, num_frames, image_size) if moves else None


def trajectory_from_moves(
    moves: Sequence[Move | str],
    num_frames: int,
    image_size: tuple[int, int] | None = None,
    constants: MoveConstants = DEFAULT_CONSTANTS,
) -> CameraTrajectory:
    """Compose moves into a path: each segment starts from the full pose in which the one before it ends.

    The T - 1 steps between frames are shared evenly: frame t stands at `t * len(moves) / (T - 1)` segments, so that the
    last frame completes the last move whatever T is. Within a segment, translation is straight in the axes of the
    segment's first pose (a circle for orbits) and rotation uniform.

    Args:
        moves: Camera words in order, at least one.
        num_frames: T, at least `len(moves) + 1`.
        image_size: `(H, W)`, for the intrinsics (focal length 1.2 x width); without it they stay unknown.
        constants: Totals of one segment.

    Returns:
        Poses with frame 0 = identity, in the unit of `constants.scene_depth`.

    Raises:
        TrajectoryError: A word is unknown, there is none, or the clip is too short.
    """
    words = [_as_move(move) for move in moves]
    if not words:
        raise TrajectoryError(f"A trajectory needs at least one camera word. Allowed: {[m.value for m in Move]}.")
    if num_frames < len(words) + 1:
        raise TrajectoryError(
            f"{len(words)} camera move(s) {[str(w) for w in words]} need at least {len(words) + 1} frames, "
            f"received num_frames={num_frames!r}. Use a longer clip or fewer moves."
        )
    # Integer arithmetic: frames on a joint belong exactly to it.
    clock = torch.arange(num_frames) * len(words)
    segment, progress = clock // (num_frames - 1), (clock % (num_frames - 1)).to(torch.float64) / (num_frames - 1)
    start = torch.eye(4, dtype=torch.float64)
    c2w = torch.empty(num_frames, 4, 4, dtype=torch.float64)
    for index, word in enumerate(words):
        inside = segment == index
        c2w[inside] = start @ _segment(word, progress[inside], constants)
        start = start @ _segment(word, torch.ones(1, dtype=torch.float64), constants)[0]
    c2w[segment == len(words)] = start
    intrinsics = None if image_size is None else default_intrinsics(*image_size)
    return CameraTrajectory(c2w, intrinsics, image_size, constants.scene_depth)


def _matches(prompt: str, strict: bool) -> list[re.Match[str]]:
    sentences = _SENTENCE.finditer(prompt)
    return [
        match
        for sentence in sentences
        if not strict or re.search(r"\bcamera\b", sentence.group(), re.IGNORECASE)
        for match in _PATTERN.finditer(prompt, *sentence.span())
    ]


def _as_move(move: Move | str) -> Move:
    try:
        return Move(re.sub(r"[\s-]+", "_", move.strip().lower()))
    except ValueError:
        allowed = [m.value for m in Move]
        raise TrajectoryError(
            f"Unknown camera move {move!r}. Allowed: {allowed}.{suggest(str(move), allowed)}"
        ) from None


def _segment(move: Move, progress: Tensor, constants: MoveConstants) -> Tensor:
    """Poses `(N, 4, 4)` relative to the segment's start, at `progress` `(N,)` in [0, 1]."""
    return _SEGMENTS[move](progress, constants)


def _straight(p: Tensor, x: float, z: float, yaw: float) -> Tensor:
    return pose(rotation_y(yaw * p), torch.stack([x * p, torch.zeros_like(p), z * p], dim=-1))


def _orbit(p: Tensor, radius: float, arc: float) -> Tensor:
    """Around the point `radius` ahead, kept in view: a positive arc carries the camera left and turns it right."""
    rotation = rotation_y(arc * p)
    centre = torch.tensor([0.0, 0.0, radius], dtype=torch.float64)
    return pose(rotation, centre - rotation @ centre)


_SEGMENTS: dict[Move, Callable[[Tensor, MoveConstants], Tensor]] = {
    Move.PUSH_IN: lambda p, c: _straight(p, 0.0, c.push, 0.0),
    Move.PULL_OUT: lambda p, c: _straight(p, 0.0, -c.push, 0.0),
    Move.MOVE_LEFT: lambda p, c: _straight(p, -c.move, 0.0, 0.0),
    Move.MOVE_RIGHT: lambda p, c: _straight(p, c.move, 0.0, 0.0),
    Move.PAN_LEFT: lambda p, c: _straight(p, 0.0, 0.0, -c.pan),
    Move.PAN_RIGHT: lambda p, c: _straight(p, 0.0, 0.0, c.pan),
    Move.ORBIT_LEFT: lambda p, c: _orbit(p, c.orbit_radius, c.orbit_arc),
    Move.ORBIT_RIGHT: lambda p, c: _orbit(p, c.orbit_radius, -c.orbit_arc),
    Move.PULL_LEFT: lambda p, c: _straight(p, -c.pull_move, -c.pull_back, -c.pull_pan),
    Move.PULL_RIGHT: lambda p, c: _straight(p, c.pull_move, -c.pull_back, c.pull_pan),
    Move.FIXED: lambda p, c: _straight(p, 0.0, 0.0, 0.0),
}
