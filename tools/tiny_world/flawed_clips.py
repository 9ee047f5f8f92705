"""Clips as a base model is trained on in the wild: half do not hold together in 3D, and camera words are often wrong.

Large text-to-video models learn from footage in which things morph and cuts go unnoticed, and from captions whose
camera words were guessed. A tiny model that is trained on such a mixture has what World-R1 sets out to mend: coherent
and incoherent clips, and a camera that follows its words only sometimes. Flaws are rendered, never painted:

- `slip`: the patterns of walls, floor and ceiling move along their surfaces, with the camera or against it;
- `bend`: walls and ceiling move while the camera does;
- `morph`, `vanish`, `appear`: an object turns into another one, or is there in part of the clip only;
- `jump`: an object changes its place.

On average a flawed clip moves as much as an honest one, so that a model which unlearns the flaws need not move less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldr1_backbones.tiny.captions import COLOURS, SHAPES, Caption, draw_index, draw_moves, sample_caption
from worldr1_backbones.tiny.data import clip_generator
from worldr1_backbones.tiny.raycaster import render
from worldr1_backbones.tiny.scenes import NUM_FRAMES, Scene, Solid, sample_scene, uniform, walked_trajectory
from worldr1_backbones.tiny.textures import CELL
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move

ROOM_FLAWS = ("slip", "bend")
OBJECT_FLAWS = ("morph", "vanish", "appear", "jump")
_SPLIT = 1 << 41
"""Keeps the seeds of these clips apart from those of the honest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlawedShares:
    """How much of the data is flawed.

    Attributes:
        incoherent: Share of clips that do not hold together, in [0, 1].
        wrong_moves: Share of captions with camera words that name another path, in [0, 1].
    """

    incoherent: float = 0.5
    wrong_moves: float = 0.33


@dataclass(frozen=True, slots=True)
class _JumpingSolid(Solid):
    """A solid whose place changes beyond its own motion; `shift` holds x, y, z of every frame."""

    shift: tuple[tuple[float, float, float], ...] = ()

    def centres(self, floor: float, num_frames: int) -> Tensor:
        return Solid.centres(self, floor, num_frames) + torch.tensor(self.shift)


def flawed_clip(index: int, seed: int, shares: FlawedShares, *, held_out: bool = False) -> tuple[Tensor, Caption]:
    """Frames `(T, 3, H, W)` in [0, 1] and caption of clip number `index` of the data set `seed`.

    Args:
        index: Which clip.
        seed: Which data set.
        shares: How much of it is flawed.
        held_out: Draw from the held-out captions.
    """
    generator = clip_generator(index + _SPLIT, seed, held_out=held_out)
    caption = sample_caption(generator, held_out=held_out)
    scene = sample_scene(caption, generator)
    walked = caption
    if uniform(generator, 0, 1) < shares.wrong_moves:
        walked = replace(caption, moves=_other_moves(caption, generator))
    path = walked_trajectory(walked, generator)
    flaws = _draw_flaws(generator) if uniform(generator, 0, 1) < shares.incoherent else ()
    return render_flawed(scene, path, flaws, generator), caption


def render_flawed(scene: Scene, path: CameraTrajectory, flaws: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Frames `(T, 3, H, W)` of a scene that goes wrong in the given ways."""
    if "slip" in flaws:
        scene = _slipping(scene, path, generator)
    if "bend" in flaws:
        scene = _bending(scene, generator)
    share = _switch(generator)
    target = draw_index(generator, len(scene.solids))
    if "jump" in flaws:
        scene = _with_solid(scene, target, _jumping(scene.solids[target], share, generator))
    before = after = scene
    if "morph" in flaws:
        after = _with_solid(scene, target, _morphed(scene, target, generator))
    elif "vanish" in flaws:
        after = _without_solid(scene, target)
    elif "appear" in flaws:
        before = _without_solid(scene, target)
    frames = render(before, path)
    if after is before:
        return frames
    mix = share[:, None, None, None]
    return (1 - mix) * frames + mix * render(after, path)


def _draw_flaws(generator: torch.Generator) -> tuple[str, ...]:
    """At least one flaw of the room; often one of an object."""
    kind = draw_index(generator, 3)
    flaws = [*(ROOM_FLAWS if kind == 2 else ROOM_FLAWS[kind : kind + 1])]
    if uniform(generator, 0, 1) < 0.5:
        flaws.append(OBJECT_FLAWS[draw_index(generator, len(OBJECT_FLAWS))])
    return tuple(flaws)


def _other_moves(caption: Caption, generator: torch.Generator) -> tuple[Move, ...]:
    moves = caption.moves
    while moves == caption.moves or not moves:
        moves = draw_moves(generator)
    return moves


def _slipping(scene: Scene, path: CameraTrajectory, generator: torch.Generator) -> Scene:
    """Patterns go along with the camera, or run against it, and drift besides."""
    x, _, z = path.positions.float().T / CELL
    time = torch.linspace(0, 1, NUM_FRAMES)

    def moved(offset: float | Tensor, cells: float, along: Tensor) -> Tensor:
        grip = uniform(generator, -0.7, 0.9)
        drift = uniform(generator, -0.5, 0.5)
        return offset + ((drift * time - grip * along) / cells)[:, None]

    wall, down, across, depth = scene.phase
    per_phase = 5 if scene.texture == "plain" else 2  # cells
    phase = (moved(wall, per_phase, x + z), moved(down, 2, 0 * x), moved(across, 2, x), moved(depth, 2, z))
    return replace(scene, phase=phase)


def _bending(scene: Scene, generator: torch.Generator) -> Scene:
    """Walls and ceiling move outwards or inwards, as far as the camera's path leaves room."""
    time = torch.linspace(0, 1, NUM_FRAMES)[:, None]

    def moved(length: float | Tensor, low: float, high: float) -> Tensor:
        return length * (1 + uniform(generator, low, high) * time)

    return replace(
        scene,
        half_width=moved(scene.half_width, 0.0, 0.45),
        ceiling=moved(scene.ceiling, -0.25, 0.5),
        back=moved(scene.back, -0.12, 0.5),
    )


def _switch(generator: torch.Generator) -> Tensor:
    """Share `(T,)` of what comes after in every frame: a change within one to four frames somewhere in the clip."""
    at, width = uniform(generator, 2.5, 5.5), uniform(generator, 0.6, 3.5)
    return ((torch.arange(NUM_FRAMES) - at) / width + 0.5).clamp(0, 1)


def _jumping(solid: Solid, share: Tensor, generator: torch.Generator) -> Solid:
    side = 1 if draw_index(generator, 2) else -1
    step = torch.tensor([side * uniform(generator, 0.15, 0.28), 0.0, uniform(generator, -0.1, 0.1)])
    shift = tuple((x, y, z) for x, y, z in (share[:, None] * step).tolist())
    return _JumpingSolid(solid.shape, solid.colour, solid.half, solid.x, solid.z, solid.motion, shift)


def _morphed(scene: Scene, target: int, generator: torch.Generator) -> Solid:
    solid = scene.solids[target]
    shapes = [s for s in SHAPES if s != solid.shape]
    taken = {scene.room, *(s.colour for s in scene.solids)}
    colours = [c for c in COLOURS if c not in taken]
    half = solid.half * uniform(generator, 0.75, 1.25)
    return replace(
        solid,
        shape=shapes[draw_index(generator, len(shapes))],
        colour=colours[draw_index(generator, len(colours))],
        half=half,
    )


def _with_solid(scene: Scene, index: int, solid: Solid) -> Scene:
    solids = list(scene.solids)
    solids[index] = solid
    return replace(scene, solids=tuple(solids))


def _without_solid(scene: Scene, index: int) -> Scene:
    return replace(scene, solids=tuple(s for i, s in enumerate(scene.solids) if i != index))
