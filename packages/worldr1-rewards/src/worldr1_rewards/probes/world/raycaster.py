"""The ray-caster: exact z-depth, anti-aliased colour. Rays are scaled so that their parameter is the z-depth itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_rewards.probes.world.scenes import NUM_ROOM_SURFACES, Scene, Solid
from worldr1_rewards.probes.world.textures import NUM_LEVELS, TEXTURE_SIZE

NEAR = 0.05
GLOSS_EXPONENT = 24
AMBIENT, DIFFUSE = 0.55, 0.75


def intrinsics(size: tuple[int, int], *, focal: float | None = None, fov: float | None = None) -> Tensor:
    """`(3, 3)` float64 intrinsics of a centred camera.

    Args:
        size: (H, W).
        focal: In pixels; 1.2 times the width when neither `focal` nor `fov` is given.
        fov: Horizontal field of view in degrees, instead of `focal`.
    """
    height, width = size
    if fov is not None:
        focal = 0.5 * width / math.tan(math.radians(fov) / 2)
    pixels = 1.2 * width if focal is None else focal
    return torch.tensor([[pixels, 0, width / 2], [0, pixels, height / 2], [0, 0, 1]], dtype=torch.float64)


def camera_rays(c2w: Tensor, K: Tensor, size: tuple[int, int], samples: int) -> tuple[Tensor, Tensor]:
    """Origin `(3,)` and directions `(N, 3)` in the world, `samples`² a pixel, of unit length along the optical axis."""
    height, width = size
    y = (torch.arange(height * samples) + 0.5) / samples
    x = (torch.arange(width * samples) + 0.5) / samples
    K = K.float()
    rows, columns = torch.meshgrid((y - K[1, 2]) / K[1, 1], (x - K[0, 2]) / K[0, 0], indexing="ij")
    directions = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).reshape(-1, 3)
    return c2w[:3, 3].float(), directions @ c2w[:3, :3].float().T


def _yaw_matrix(yaw: float) -> Tensor:
    c, s = math.cos(yaw), math.sin(yaw)
    return torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _safe(values: Tensor) -> Tensor:
    return torch.where(values.abs() < 1e-9, torch.full_like(values, 1e-9), values)


def _to_unit(solid: Solid, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Rays in the space where the solid is the unit cube, ball or cylinder; the ray parameter is unchanged."""
    turn = _yaw_matrix(solid.yaw)
    return (turn.T @ (origin - solid.centre)) / solid.half, (directions @ turn) / solid.half


def _hit_slabs(origin: Tensor, directions: Tensor) -> Tensor:
    near, far = (-1 - origin) / _safe(directions), (1 - origin) / _safe(directions)
    entry, leave = torch.minimum(near, far).amax(-1), torch.maximum(near, far).amin(-1)
    return torch.where((entry < leave) & (entry > NEAR), entry, math.inf)


def _hit_quadric(origin: Tensor, directions: Tensor) -> Tensor:
    """First crossing of the unit sphere of as many dimensions as the vectors have."""
    a = (directions * directions).sum(-1)
    b = directions @ origin
    root = b * b - a * (origin @ origin - 1)
    t = (-b - root.clamp(min=0).sqrt()) / a.clamp(min=1e-12)
    return torch.where((root > 0) & (t > NEAR), t, math.inf)


def _hit_cylinder(origin: Tensor, directions: Tensor) -> Tensor:
    side = _hit_quadric(origin[[0, 2]], directions[:, [0, 2]])
    level = origin[1] + torch.where(side.isinf(), torch.zeros_like(side), side) * directions[:, 1]
    side = torch.where(level.abs() <= 1, side, math.inf)
    cap = (torch.where(directions[:, 1] > 0, -1.0, 1.0) - origin[1]) / _safe(directions[:, 1])
    spot = origin[[0, 2]] + cap[:, None] * directions[:, [0, 2]]
    cap = torch.where(((spot * spot).sum(-1) <= 1) & (cap > NEAR), cap, math.inf)
    return torch.minimum(side, cap)


def hit_solid(solid: Solid, origin: Tensor, directions: Tensor) -> Tensor:
    """z-depth `(N,)` at which each ray enters the solid, infinite where it misses."""
    depth = torch.full((len(directions),), math.inf)
    toward = solid.centre - origin
    along = directions @ toward
    reach = (toward @ toward - solid.half @ solid.half).clamp(min=0)
    near = ((along > 0) & (along * along >= reach * (directions * directions).sum(-1))).nonzero()[:, 0]
    if near.numel():
        local_origin, local_directions = _to_unit(solid, origin, directions[near])
        hit = {"box": _hit_slabs, "sphere": _hit_quadric, "cylinder": _hit_cylinder}[solid.kind]
        depth[near] = hit(local_origin, local_directions)
    return depth


def _face_uv(point: Tensor, axis: Tensor) -> Tensor:
    """The two coordinates `(N, 2)` along the face whose normal is `axis`."""
    u = torch.where(axis == 0, point[:, 2], point[:, 0])
    v = torch.where(axis == 1, point[:, 2], point[:, 1])
    return torch.stack([u, v], dim=-1)


def _surface(solid: Solid, local: Tensor, tile: float) -> tuple[Tensor, Tensor]:
    """Texture coordinates (in tiles) and world normals at points `local` of the unit solid."""
    half = solid.half
    if solid.kind == "box":
        axis = local.abs().argmax(-1)
        uv = _face_uv(local * half, axis) / tile + 0.37 * axis[:, None]
        normal = functional.one_hot(axis, 3).float() * torch.gather(local, 1, axis[:, None]).sign()
    else:
        turns = max(1, round(2 * math.pi * half[0].item() / tile))
        around = torch.atan2(local[:, 0], local[:, 2]) / (2 * math.pi) * turns
        if solid.kind == "sphere":
            up = torch.asin(local[:, 1].clamp(-1, 1)) * half[1] / tile
            uv, normal = torch.stack([around, up], dim=-1), local
        else:
            cap = local[:, 1].abs() > 1 - 1e-4
            on_side = torch.stack([around, local[:, 1] * half[1] / tile], dim=-1)
            uv = torch.where(cap[:, None], local[:, [0, 2]] * half[[0, 2]] / tile, on_side)
            flat = torch.stack([torch.zeros_like(around), local[:, 1].sign(), torch.zeros_like(around)], dim=-1)
            round_normal = local * torch.tensor([1.0, 0.0, 1.0])
            normal = torch.where(cap[:, None], flat, round_normal)
    return uv, functional.normalize((normal / half) @ _yaw_matrix(solid.yaw).T, dim=-1)


def _trace(scene: Scene, origin: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and surface index of every ray; solids count from `NUM_ROOM_SURFACES`."""
    directions = _safe(directions)
    walls = torch.where(directions > 0, scene.room_high - origin, scene.room_low - origin) / directions
    depth, axis = walls.min(-1)
    surface = 2 * axis + (torch.gather(directions, 1, axis[:, None])[:, 0] > 0).long()
    for index, solid in enumerate(scene.solids):
        t = hit_solid(solid, origin, directions)
        closer = t < depth
        depth = torch.where(closer, t, depth)
        surface = torch.where(closer, NUM_ROOM_SURFACES + index, surface)
    return depth, surface


def _attributes(
    scene: Scene, origin: Tensor, directions: Tensor, depth: Tensor, surface: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """World points, texture coordinates (in tiles) and normals of the traced points."""
    points = origin + depth[:, None] * directions
    axis = (surface // 2).clamp(max=2)
    uv = _face_uv(points, axis) / scene.tile_size[surface][:, None]
    toward = torch.where(surface % 2 == 1, -1.0, 1.0)
    normals = functional.one_hot(axis, 3).float() * toward[:, None]
    for index, solid in enumerate(scene.solids):
        chosen = (surface == NUM_ROOM_SURFACES + index).nonzero()[:, 0]
        if chosen.numel():
            turn = _yaw_matrix(solid.yaw)
            local = ((points[chosen] - solid.centre) @ turn) / solid.half
            uv[chosen], normals[chosen] = _surface(solid, local, scene.tile_size[NUM_ROOM_SURFACES + index].item())
    return points, uv + scene.uv_offset[surface], normals


def _texture(scene: Scene, uv: Tensor, surface: Tensor, level: Tensor) -> Tensor:
    """Trilinear look-up `(N, 3)`: bilinear in the tile, linear between the two nearest blur levels."""
    layers = scene.volume.shape[2]
    layer = surface * NUM_LEVELS + level.clamp(0, NUM_LEVELS - 1)
    texel = (uv % 1.0) * TEXTURE_SIZE + 1
    padded = TEXTURE_SIZE + 2
    grid = torch.stack(
        [2 * texel[:, 0] / padded - 1, 2 * texel[:, 1] / padded - 1, (2 * layer + 1) / layers - 1], dim=-1
    )
    return functional.grid_sample(scene.volume, grid[None, None, None], align_corners=False)[0, :, 0, 0].T


def _shade(scene: Scene, directions: Tensor, traced: tuple[Tensor, Tensor], footprint: float, origin: Tensor) -> Tensor:
    depth, surface = traced
    points, uv, normals = _attributes(scene, origin, directions, depth, surface)
    view = functional.normalize(-directions, dim=-1)
    facing = (view * normals).sum(-1).clamp(min=0.15)
    texels = depth * footprint / facing.sqrt() * TEXTURE_SIZE / scene.tile_size[surface]
    colour = _texture(scene, uv, surface, torch.log2(texels.clamp(min=1e-6)))
    to_light = scene.light - points
    distance = to_light.norm(dim=-1, keepdim=True)
    to_light = to_light / distance
    lambert = (to_light * normals).sum(-1).clamp(min=0)
    falloff = 1 / (1 + (distance[:, 0] / 6) ** 2)
    lit = colour * (AMBIENT + DIFFUSE * lambert * falloff)[:, None]
    if bool((scene.gloss > 0).any()):
        mirrored = 2 * (to_light * normals).sum(-1, keepdim=True) * normals - to_light
        highlight = (mirrored * view).sum(-1).clamp(min=0) ** GLOSS_EXPONENT
        lit = lit + (scene.gloss[surface] * highlight)[:, None]
    return lit.clamp(0, 1)


def render_frame(scene: Scene, c2w: Tensor, K: Tensor, size: tuple[int, int], samples: int = 2) -> Tensor:
    """One frame `(3, H, W)` float32 in [0, 1] without sensor noise; `samples`² rays a pixel."""
    origin, directions = camera_rays(c2w, K, size, samples)
    traced = _trace(scene, origin, directions)
    colour = _shade(scene, directions, traced, 1 / (K[0, 0].item() * samples), origin)
    height, width = size
    return functional.avg_pool2d(colour.T.reshape(1, 3, height * samples, width * samples), samples)[0]


def render_depth(scene: Scene, c2w: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """z-depth `(H, W)` of the surface at every pixel's centre."""
    origin, directions = camera_rays(c2w, K, size, 1)
    return _trace(scene, origin, directions)[0].reshape(size)


def surfaces(scene: Scene, c2w: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """Index `(H, W)` of the surface at every pixel's centre; solids count from `NUM_ROOM_SURFACES`."""
    origin, directions = camera_rays(c2w, K, size, 1)
    return _trace(scene, origin, directions)[1].reshape(size)
