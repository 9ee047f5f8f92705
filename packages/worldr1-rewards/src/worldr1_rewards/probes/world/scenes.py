"""Scenes: a lit room with boxes, spheres and cylinders at varied depths, drawn from a seed and a texture family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from worldr1_rewards.probes.world import textures

FAMILIES = ("rich", "soft", "plain", "tiles", "gloss", "noise", "mixed")
"""Texture families: what covers the surfaces, whether they shine, and whether the sensor is noisy."""

NUM_ROOM_SURFACES = 6


@dataclass(frozen=True)
class Solid:
    """A box, sphere or upright cylinder.

    Attributes:
        kind: `"box"`, `"sphere"` or `"cylinder"`.
        centre: World position `(3,)`, y down.
        half: Half extents `(3,)` along the solid's own axes; all must be positive.
        yaw: Rotation about the vertical axis in radians.
    """

    kind: str
    centre: Tensor
    half: Tensor
    yaw: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything that is rendered.

    Attributes:
        room_low, room_high: Opposite corners of the room `(3,)`.
        solids: What stands in it.
        volume: Texture volume `(1, 3, N * levels, S + 2, S + 2)`; surface i uses texture i: six walls, then solids.
        tile_size: World size of one texture tile per surface `(N,)`.
        light: Position of the lamp `(3,)`.
        gloss: Strength of the view-dependent highlight per surface `(N,)`.
        uv_offset: Slide of every surface's texture `(N, 2)`, in tiles.
        sensor_noise: Standard deviation of the noise added to every frame.
    """

    room_low: Tensor
    room_high: Tensor
    solids: tuple[Solid, ...]
    volume: Tensor
    tile_size: Tensor
    light: Tensor
    gloss: Tensor
    uv_offset: Tensor
    sensor_noise: float = 0.0

    def with_solids(self, solids: list[Solid]) -> Scene:
        """The same scene with its solids reshaped or moved (their number and order must not change)."""
        return replace(self, solids=tuple(solids))

    def with_offset(self, uv_offset: Tensor) -> Scene:
        """The same scene with its textures slid."""
        return replace(self, uv_offset=uv_offset)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand(1, generator=generator).item()


def _solid(generator: torch.Generator, slot: float, floor: float, index: int) -> Solid:
    """One object on the floor or in the air; `slot` in [-1, 1] spreads them over the width of the view."""
    kind = ("box", "sphere", "cylinder")[int(torch.randint(0, 3, (1,), generator=generator))]
    depth = _uniform(generator, 3.2, 5.4)
    half = torch.tensor([_uniform(generator, 0.3, 0.6) for _ in range(3)])
    if kind == "sphere":
        half[:] = half[0]
    elif kind == "cylinder":
        half[2] = half[0]
        half[1] = half[1] * 1.5
    lift = _uniform(generator, 0.6, 1.6) if index % 3 == 2 else 0.0
    sideways = slot * 0.5 * depth + _uniform(generator, -0.2, 0.2)
    centre = torch.tensor([sideways, floor - half[1].item() - lift, depth])
    return Solid(kind, centre, half, _uniform(generator, 0.0, math.pi / 2))


def _painters(
    family: str, generator: torch.Generator, num_solids: int
) -> Sequence[Callable[[torch.Generator], Tensor]]:
    """Return the texture of every surface."""
    total = NUM_ROOM_SURFACES + num_solids
    if family == "plain":
        return [*[textures.plain] * NUM_ROOM_SURFACES, *[textures.rich] * num_solids]
    if family == "mixed":
        choice = (textures.rich, textures.soft, textures.tiles, textures.plain)
        return [choice[int(torch.randint(0, 4, (1,), generator=generator))] for _ in range(total)]
    if family == "gloss":
        return [*[textures.soft] * NUM_ROOM_SURFACES, *[textures.rich] * num_solids]
    one: Mapping[str, Callable[[torch.Generator], Tensor]] = {
        "rich": textures.rich,
        "noise": textures.rich,
        "soft": textures.soft,
        "tiles": textures.tiles,
    }
    return [one[family]] * total


@lru_cache(maxsize=4)
def build_scene(family: str = "rich", seed: int = 0) -> Scene:
    """Draw a scene; the camera stands at the origin, looks along +z and sees a median depth of about five units.

    Args:
        family: One of `FAMILIES`.
        seed: Scenes of different seeds differ in layout, colours and textures.
    """
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}. Allowed: {FAMILIES}.")
    generator = torch.Generator().manual_seed(7919 * seed + FAMILIES.index(family))
    floor = _uniform(generator, 1.2, 1.8)
    low = torch.tensor([-_uniform(generator, 3.2, 4.5), -_uniform(generator, 1.8, 2.6), -4.0])
    high = torch.tensor([_uniform(generator, 3.2, 4.5), floor, _uniform(generator, 6.0, 7.2)])
    num_solids = 4 if family == "plain" else 5 + int(torch.randint(0, 2, (1,), generator=generator))
    order = torch.randperm(num_solids, generator=generator).tolist()
    slots = [2 * (place + 0.5) / num_solids - 1 for place in order]
    solids = tuple(_solid(generator, slot, floor, index) for index, slot in enumerate(slots))
    painters = _painters(family, generator, num_solids)
    total = NUM_ROOM_SURFACES + num_solids
    volume = torch.cat([textures.mip_levels(paint(generator)) for paint in painters], dim=1)[None].contiguous()
    shine = {"gloss": 0.55, "mixed": 0.25}.get(family, 0.0)
    gloss = shine * (0.5 + 0.5 * torch.rand(total, generator=generator))
    return Scene(
        room_low=low,
        room_high=high,
        solids=solids,
        volume=volume,
        tile_size=torch.tensor([4.0] * NUM_ROOM_SURFACES + [2.0] * num_solids),
        light=torch.tensor([_uniform(generator, -1.5, 1.5), low[1].item() + 0.4, _uniform(generator, 0.5, 2.5)]),
        gloss=gloss,
        uv_offset=torch.zeros(total, 2),
        sensor_noise={"noise": 0.03, "mixed": 0.01}.get(family, 0.0),
    )
