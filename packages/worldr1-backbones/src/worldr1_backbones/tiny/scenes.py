"""Scenes of the tiny world: a room, one or two solids, and where the camera goes.

Lengths are in scene depths: 1.0 here is `MoveConstants.scene_depth` there, so that the path which a prompt commands is
the path that is rendered. Axes are OpenCV's (x right, y down, z forward); the first camera stands at the origin.

The room is laid out around the paths. All single moves, composites and two-move prompts stay within |x| < 0.52 and
-0.91 < z < 0.66; walls stand beyond |x| = 0.6, and solids, which turn and slide, keep to z > 0.77.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldr1_backbones.tiny.captions import Caption
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import DEFAULT_CONSTANTS, SINGLE_MOVES, Move, trajectory_from_moves

IMAGE_SIZE = 64
NUM_FRAMES = 9
BEHIND = 1.1
"""Distance of the wall behind the first camera; `pull out, then pull left` ends 0.9 behind it."""
YAW = 0.45
"""Turn of boxes and pyramids about the vertical, radians: two faces show."""
HOP, SLIDE = 0.16, 0.15
"""Height of a bounce, and distance of a slide, in scene depths."""


@dataclass(frozen=True, slots=True)
class Solid:
    """An object on the floor.

    Attributes:
        shape: One of `captions.SHAPES`.
        colour: One of `captions.COLOURS`.
        half: Half of its width, depth and height.
        x: Where it stands.
        z: Where it stands.
        motion: One of `captions.MOTIONS`, or `None`.
    """

    shape: str
    colour: str
    half: float
    x: float
    z: float
    motion: str | None = None

    def centres(self, floor: float, num_frames: int) -> Tensor:
        """Its centre in every frame, `(T, 3)`."""
        time = torch.linspace(0, 1, num_frames)
        centre = torch.tensor([self.x, floor - self.half, self.z]).repeat(num_frames, 1)
        if self.motion == "bounces":
            centre[:, 1] -= HOP * torch.sin(2 * math.pi * time).abs()
        elif self.motion is not None:
            centre[:, 0] += (-SLIDE if self.motion == "slides left" else SLIDE) * time
        return centre


@dataclass(frozen=True, slots=True)
class Scene:
    """A room and what stands in it.

    Lengths and offsets may also be tensors `(T, 1)` that change over the frames: a room that does not hold together.

    Attributes:
        half_width: The side walls stand at x = ± this.
        floor: y of the floor, positive (y points down).
        ceiling: Height of the ceiling above the camera, positive.
        back: z of the back wall.
        room: Colour of the walls.
        texture: Pattern of the walls.
        phase: Offsets of the patterns, in double cells: walls u, walls v, floor across, floor along (and the ceiling).
        floor_tone: Brightness of the floor.
        solids: One or two.
    """

    half_width: float | Tensor
    floor: float
    ceiling: float | Tensor
    back: float | Tensor
    room: str
    texture: str
    phase: tuple[float | Tensor, float | Tensor, float | Tensor, float | Tensor]
    floor_tone: float
    solids: tuple[Solid, ...] = field(default=())


def sample_scene(caption: Caption, generator: torch.Generator) -> Scene:
    """A random scene that a caption describes."""
    count = len(caption.objects)
    solids = []
    for index, (colour, shape) in enumerate(caption.objects):
        motion = caption.motion[1] if caption.motion is not None and caption.motion[0] == index else None
        half = uniform(generator, 0.13, 0.17)
        if count == 1:
            x = uniform(generator, -0.12, 0.12)
        else:
            x = (-1 if index == 0 else 1) * uniform(generator, 0.16, 0.2 if motion else 0.24)
        solids.append(Solid(shape, colour, half, x, uniform(generator, 1.0, 1.12), motion))
    return Scene(
        half_width=uniform(generator, 0.6, 0.68),
        floor=uniform(generator, 0.27, 0.31),
        ceiling=uniform(generator, 0.38, 0.46),
        back=uniform(generator, 1.4, 1.6),
        room=caption.room,
        texture=caption.texture,
        phase=(
            uniform(generator, 0, 1),
            uniform(generator, 0, 1),
            uniform(generator, 0, 1),
            uniform(generator, 0, 1),
        ),
        floor_tone=uniform(generator, 0.5, 0.7),
        solids=tuple(solids),
    )


def commanded_trajectory(
    moves: Sequence[Move], num_frames: int = NUM_FRAMES, size: int = IMAGE_SIZE
) -> CameraTrajectory:
    """The path that moves command, in scene depths, with the intrinsics of a `size` x `size` image.

    Without moves the camera stays where it is.
    """
    path = trajectory_from_moves(moves or [Move.FIXED], num_frames, (size, size))
    return path.scaled(1 / DEFAULT_CONSTANTS.scene_depth)


def walked_trajectory(
    caption: Caption, generator: torch.Generator, num_frames: int = NUM_FRAMES, size: int = IMAGE_SIZE
) -> CameraTrajectory:
    """The path of a clip: as commanded, or one of the nine moves at random where nothing is commanded."""
    moves: Sequence[Move] = caption.moves
    if not moves:
        moves = [SINGLE_MOVES[int(torch.randint(len(SINGLE_MOVES), (), generator=generator))]]
    return commanded_trajectory(moves, num_frames, size)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A random number between two limits."""
    return low + (high - low) * float(torch.rand((), generator=generator))
