"""Colours and patterns of the tiny world, soft-edged so that 64 pixels hold them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldr1_backbones.tiny.scenes import YAW, Scene, Solid

RGB = {
    "red": (0.85, 0.16, 0.14),
    "green": (0.18, 0.66, 0.25),
    "blue": (0.18, 0.33, 0.85),
    "yellow": (0.93, 0.82, 0.18),
    "purple": (0.58, 0.24, 0.74),
    "orange": (0.96, 0.53, 0.12),
    "white": (0.93, 0.93, 0.93),
    "gray": (0.46, 0.46, 0.48),
}
"""The colours, in [0, 1]."""

CELL = 0.2
"""Side of a cell of the patterns of walls, floor and ceiling, in scene depths."""
SHARPNESS = 4.0
"""Slope of a pattern's edges; infinity would be a hard edge, which aliases."""
WALL_CONTRAST, FLOOR_CONTRAST, SOLID_CONTRAST = 0.3, 0.35, 0.18
WALL_BRIGHTNESS = 0.8
SIDE_SHADE = 0.8
"""Brightness of the side walls; the back wall has 1."""

_FLOOR_TINT = (1.0, 0.88, 0.74)
_LIGHT = (-0.45, -0.75, -0.48)
_COS, _SIN = math.cos(YAW), math.sin(YAW)


def pattern(kind: str, u: Tensor, v: Tensor) -> Tensor:
    """A wall pattern in [-1, 1] at coordinates counted in cells; `v` points down.

    Args:
        kind: One of `captions.TEXTURES`.
        u: Along the wall, any shape.
        v: Down the wall, same shape.
    """
    if kind == "checker":
        return _wave(u) * _wave(v)
    if kind == "striped":
        return _wave(1.25 * u)
    if kind == "dotted":
        distance = ((_centred(u / 1.3)) ** 2 + (_centred(v / 1.3)) ** 2).sqrt()
        return (2 * SHARPNESS * (0.3 - distance)).clamp(-1, 1)
    if kind == "brick":
        row = (v / 0.75).floor()
        joint = torch.maximum(_centred(v / 0.75).abs(), 0.5 - (0.5 - _centred(u / 1.5 + 0.5 * row).abs()) * 2)
        return (2.5 * SHARPNESS * (0.4 - joint)).clamp(-1, 1)
    return _pictures(u, v)


def _pictures(u: Tensor, v: Tensor) -> Tensor:
    """A plain wall, darker towards the floor, with a light picture in a dark frame every five cells."""
    across, up = 5 * _centred(u / 5).abs(), (v + 0.5).abs()
    edge = torch.maximum(across - 1.1, up - 0.8)
    wall = (0.25 - 0.3 * v).clamp(-0.6, 0.6)
    framed = torch.where(edge < -0.25, torch.ones_like(wall), -torch.ones_like(wall))
    return torch.where(edge < 0, framed, wall)


def room(
    scene: Scene, p: tuple[Tensor, Tensor, Tensor], on_side: Tensor, on_level: Tensor, centres: list[Tensor]
) -> list[Tensor]:
    """Colour planes of the room's surfaces.

    Args:
        scene: Its room.
        p: Points x, y, z, each `(T, N)`.
        on_side: Whether a wall point belongs to a side wall, `(T, N)`.
        on_level: Whether a point lies on floor or ceiling, `(T, N)`.
        centres: Of each solid in every frame, `(T, 3)`: their shadows.

    Returns:
        Red, green and blue, each `(T, N)`.
    """
    x, y, z = p
    u = torch.where(on_side, z, x) / CELL + (5 if scene.texture == "plain" else 2) * scene.phase[0]
    down = 0.0 if scene.texture == "plain" else 2 * scene.phase[1]
    wall = WALL_BRIGHTNESS * (1 + WALL_CONTRAST * pattern(scene.texture, u, y / CELL + down))
    wall = wall * torch.where(on_side, SIDE_SHADE, 1.0)
    tiles = _wave(x / CELL + 2 * scene.phase[2]) * _wave(z / CELL + 2 * scene.phase[3])
    floor = scene.floor_tone * (1 + FLOOR_CONTRAST * tiles)
    for solid, centre in zip(scene.solids, centres, strict=True):
        distance = ((x - centre[:, 0, None]) ** 2 + (z - centre[:, 2, None]) ** 2) / (1.3 * solid.half) ** 2
        floor = floor * (1 - 0.5 * torch.exp(-(distance**2).clamp(max=30)))
    beams = 0.8 + 0.12 * _wave(z / (1.4 * CELL) + 2 * scene.phase[3])
    below = y > 0
    planes = []
    for channel, tint in zip(RGB[scene.room], _FLOOR_TINT, strict=True):
        planes.append(torch.where(on_level, torch.where(below, floor * tint, beams), wall * channel))
    return planes


def solid(item: Solid, p: list[Tensor], normal: Tensor) -> list[Tensor]:
    """Colour planes `(M,)` of a solid.

    Args:
        item: Whose colour and shape count.
        p: Points on the unit solid in its own frame, x, y, z, each `(M,)`.
        normal: Unit normals in the same frame, `(M, 3)`.
    """
    light = (_COS * _LIGHT[0] - _SIN * _LIGHT[2], _LIGHT[1], _SIN * _LIGHT[0] + _COS * _LIGHT[2])
    lambert = (normal @ torch.tensor(light)).clamp(min=0)
    if item.shape == "box":
        mark = _wave(p[0] + 0.5) * _wave(p[1] + 0.5) * _wave(p[2] + 0.5)
    else:
        mark = _wave(torch.atan2(p[0], p[2]) * (4 / math.pi)) * _wave(1.5 * p[1])
    shade = (0.55 + 0.55 * lambert) * (1 + SOLID_CONTRAST * mark)
    return [(shade * channel).clamp(0, 1) for channel in RGB[item.colour]]


def _wave(phase: Tensor) -> Tensor:
    """A soft square wave of period 2."""
    return (SHARPNESS * torch.sin(math.pi * phase)).clamp(-1, 1)


def _centred(value: Tensor) -> Tensor:
    """Distance from the middle of the cell, in [-0.5, 0.5]."""
    return value - value.floor() - 0.5
