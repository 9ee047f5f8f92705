"""The tiny world's ray-caster: anti-aliased colour and exact z-depth of a scene along a camera path.

Rays have unit length along the optical axis, so that the parameter at which a ray meets a surface *is* the z-depth.
All frames of a clip are cast at once; tensors of rays are `(T, N)` with `N` rays a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_backbones.tiny import textures
from worldr1_backbones.tiny.scenes import BEHIND, YAW, Scene, Solid
from worldr1_core.camera.trajectory import CameraTrajectory

NEAR = 0.02
"""Surfaces closer than this are not seen."""

_COS, _SIN = math.cos(YAW), math.sin(YAW)
_BOX_NORMALS = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
_BOX_OFFSETS = torch.ones(6)
# Apex at y = -1 (up), base of half-width 1 at y = 1: each side plane falls 2 over a run of 1.
_PYRAMID_NORMALS = torch.tensor([[2.0, -1, 0], [-2, -1, 0], [0, -1, 2], [0, -1, -2], [0, 1, 0]])
_PYRAMID_OFFSETS = torch.ones(5)


@dataclass(slots=True)
class _Rays:
    """Origins `(T, 1)` and directions `(T, N)` by axis."""

    o: tuple[Tensor, Tensor, Tensor]
    d: tuple[Tensor, Tensor, Tensor]

    def at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.o[0] + t * self.d[0], self.o[1] + t * self.d[1], self.o[2] + t * self.d[2]


@torch.no_grad()
def render(scene: Scene, path: CameraTrajectory, samples: int = 2) -> Tensor:
    """Frames of a clip.

    Args:
        scene: What there is to see.
        path: In scene depths, with intrinsics and image size.
        samples: Rays a pixel along each axis.

    Returns:
        `(T, 3, H, W)` float32 in [0, 1].
    """
    rays, (height, width) = _cast(path, samples)
    colour, _ = _trace(scene, rays, want_colour=True)
    frames = torch.stack(colour, dim=1).reshape(path.num_frames, 3, height * samples, width * samples)
    return functional.avg_pool2d(frames.clamp(0, 1), samples)


@torch.no_grad()
def render_depth(scene: Scene, path: CameraTrajectory) -> Tensor:
    """z-depth `(T, H, W)` at the pixels' centres, in scene depths."""
    rays, size = _cast(path, 1)
    return _trace(scene, rays, want_colour=False)[1].reshape(path.num_frames, *size)


def _cast(path: CameraTrajectory, samples: int) -> tuple[_Rays, tuple[int, int]]:
    if path.intrinsics is None or path.image_size is None:
        raise ValueError("A path is rendered with intrinsics and image size, received None. Use commanded_trajectory.")
    height, width = path.image_size
    K = path.intrinsics.float()
    u = ((torch.arange(width * samples) + 0.5) / samples - K[0, 2]) / K[0, 0]
    v = ((torch.arange(height * samples) + 0.5) / samples - K[1, 2]) / K[1, 1]
    y, x = (grid.flatten() for grid in torch.meshgrid(v, u, indexing="ij"))
    R, o = path.rotations.float(), path.positions.float()
    d = [R[:, i, 0, None] * x + R[:, i, 1, None] * y + R[:, i, 2, None] for i in range(3)]
    d = [torch.where(c.abs() < 1e-6, torch.full_like(c, 1e-6), c) for c in d]
    return _Rays((o[:, 0, None], o[:, 1, None], o[:, 2, None]), (d[0], d[1], d[2])), (height, width)


def _trace(scene: Scene, rays: _Rays, *, want_colour: bool) -> tuple[list[Tensor], Tensor]:
    """Colour planes `(T, N)` (none unless wanted) and z-depth `(T, N)`."""
    o, d = rays.o, rays.d
    side = ((d[0] > 0).float() * (2 * scene.half_width) - scene.half_width - o[0]) / d[0]
    level = (torch.where(d[1] > 0, scene.floor, -scene.ceiling) - o[1]) / d[1]
    end = (torch.where(d[2] > 0, scene.back, -BEHIND) - o[2]) / d[2]
    wall = torch.minimum(side, end)
    depth = torch.minimum(wall, level)
    num_frames = d[0].shape[0]
    centres = [solid.centres(scene.floor, num_frames) for solid in scene.solids]
    colour = textures.room(scene, rays.at(depth), side < end, level < wall, centres) if want_colour else []
    for solid, centre in zip(scene.solids, centres, strict=True):
        index, local = _near(solid, centre, rays)
        t = _hit(solid, local)
        closer = t < depth.view(-1)[index]
        index, t = index[closer], t[closer]
        depth.view(-1)[index] = t
        if want_colour and index.numel():
            spot = [(a[closer] + t * b[closer]) / solid.half for a, b in zip(local.o, local.d, strict=True)]
            normal = _normal(solid, spot)
            for plane, value in zip(colour, textures.solid(solid, spot, normal), strict=True):
                plane.view(-1)[index] = value
    return colour, depth


def _near(solid: Solid, centre: Tensor, rays: _Rays) -> tuple[Tensor, _Rays]:
    """Flat indices `(M,)` of the rays that meet the solid's bounding ball, and these rays in its own turned frame."""
    o = [origin - centre[:, i, None] for i, origin in enumerate(rays.o)]
    dd = rays.d[0] ** 2 + rays.d[1] ** 2 + rays.d[2] ** 2
    along = o[0] * rays.d[0] + o[1] * rays.d[1] + o[2] * rays.d[2]
    oo = o[0] ** 2 + o[1] ** 2 + o[2] ** 2
    index = ((along < 0) & (along**2 > (oo - 3 * solid.half**2) * dd)).view(-1).nonzero()[:, 0]
    origin = [value.expand_as(dd).reshape(-1)[index] for value in o]
    heading = [value.reshape(-1)[index] for value in rays.d]
    return index, _Rays(_turn(origin), _turn(heading))


def _turn(v: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return _COS * v[0] - _SIN * v[2], v[1], _SIN * v[0] + _COS * v[2]


def _hit(solid: Solid, rays: _Rays) -> Tensor:
    """z-depth `(M,)` at which rays enter a solid of half-extent `half` about the origin; infinite where they miss."""
    o = (rays.o[0] / solid.half, rays.o[1] / solid.half, rays.o[2] / solid.half)
    d = (rays.d[0] / solid.half, rays.d[1] / solid.half, rays.d[2] / solid.half)
    if solid.shape == "box":
        return _hit_planes(o, d, _BOX_NORMALS, _BOX_OFFSETS)
    if solid.shape == "pyramid":
        return _hit_planes(o, d, _PYRAMID_NORMALS, _PYRAMID_OFFSETS)
    if solid.shape == "ball":
        return _roots(_dot(d, d), _dot(o, d), _dot(o, o) - 1)[0]
    # Cylinder: x² + z² = 1. Cone with apex (0, -1, 0): x² + z² = ((y + 1) / 2)².
    slope = 0.0 if solid.shape == "cylinder" else 0.25
    rise = o[1] + 1
    a = d[0] ** 2 + d[2] ** 2 - slope * d[1] ** 2
    b = o[0] * d[0] + o[2] * d[2] - slope * rise * d[1]
    c = o[0] ** 2 + o[2] ** 2 - (slope * rise**2 if slope else 1.0)
    best = torch.full_like(a, math.inf)
    for t in _roots(a, b, c):
        within = (o[1] + torch.where(t.isinf(), 0.0, t) * d[1]).abs() <= 1
        best = torch.where(within & (t < best), t, best)
    for cap in (1.0,) if slope else (-1.0, 1.0):
        t = (cap - o[1]) / d[1]
        inside = (o[0] + t * d[0]) ** 2 + (o[2] + t * d[2]) ** 2 <= 1
        best = torch.where(inside & (t > NEAR) & (t < best), t, best)
    return best


def _dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions of a t² + 2 b t + c = 0, smaller first, infinite where there is none in front of the camera."""
    a = torch.where(a.abs() < 1e-9, torch.full_like(a, 1e-9), a)
    root = b * b - a * c
    spread = root.clamp(min=0).sqrt()
    pair = ((-b - spread) / a, (-b + spread) / a)
    seen = [torch.where((root > 0) & (t > NEAR), t, math.inf) for t in pair]
    return torch.minimum(*seen), torch.maximum(*seen)


def _hit_planes(o: tuple[Tensor, ...], d: tuple[Tensor, ...], normals: Tensor, offsets: Tensor) -> Tensor:
    """Entry into the convex body `normals · p <= offsets`."""
    enter, leave = torch.full_like(d[0], -math.inf), torch.full_like(d[0], math.inf)
    for normal, offset in zip(normals.tolist(), offsets.tolist(), strict=True):
        toward = normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2]
        toward = torch.where(toward.abs() < 1e-9, torch.full_like(toward, 1e-9), toward)
        t = (offset - normal[0] * o[0] - normal[1] * o[1] - normal[2] * o[2]) / toward
        enter = torch.where(toward < 0, torch.maximum(enter, t), enter)
        leave = torch.where(toward > 0, torch.minimum(leave, t), leave)
    return torch.where((enter < leave) & (enter > NEAR), enter, math.inf)


def _normal(solid: Solid, p: list[Tensor]) -> Tensor:
    """Outward unit normals `(M, 3)`, in the solid's frame, at points of the unit solid."""
    points = torch.stack(p, dim=-1)
    if solid.shape == "ball":
        return functional.normalize(points, dim=-1)
    if solid.shape in ("box", "pyramid"):
        normals = _BOX_NORMALS if solid.shape == "box" else _PYRAMID_NORMALS
        unit = normals / normals.norm(dim=-1, keepdim=True)
        offset = 1 / normals.norm(dim=-1)
        return unit[(points @ unit.T - offset).argmax(-1)]
    radius = (p[0] ** 2 + p[2] ** 2).sqrt()
    lean = torch.zeros_like(radius) if solid.shape == "cylinder" else -0.5 * radius
    normal = torch.stack([p[0], lean, p[2]], dim=-1)
    lid = (p[1].abs() > 1 - 1e-4) & (radius < 1 - 1e-4)
    flat = torch.stack([torch.zeros_like(radius), p[1].sign(), torch.zeros_like(radius)], dim=-1)
    return functional.normalize(torch.where(lid[:, None], flat, normal), dim=-1)
