"""Views of frames with depth from other places: depth by agreement of near frames, colour from where it is seen.

Every near frame's depth is splatted into the view by itself. A depth is believed where at least two of them agree on
it; of several such depths the nearest hides the others. Colour comes from the nearest frames that see the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose
from worldr1_core.camera.geometry import scale_intrinsics as resize_intrinsics
from worldr1_rewards.reconstructors.pyramid import sample
from worldr1_rewards.reconstructors.rigid import pixel_rays

NUM_DEPTH_VIEWS = 4
"""Nearest frames that vote on the depth of a view."""
NUM_COLOUR_VIEWS = 2
"""Nearest frames that a pixel takes its colour from, of those that vote and see its surface."""
TOLERANCE = 0.1
"""Relative difference of inverse depth within which two frames agree."""
NEAR = 0.02
"""Least z-depth, in units of the frame's own, of what is drawn."""
CLOSING_STEPS = 2
"""Rings of empty pixels between splats that are closed; larger gaps are disocclusions."""
EDGE = 0.1
"""Relative difference of inverse depth between neighbours beyond which enlarging does not blend them."""
MIN_SHIFT = 1 / 64
"""Median displacement between a view and the frames that predict it, over the shorter side: a pixel of a 64-pixel
picture."""
SHIFT_STRIDE = 4
"""Every so many rows and columns of the depth tell the displacement."""
TURN_WEIGHT = 1.0
"""Weight of rotation against translation in the choice of near frames, in squared scene depths per squared radian."""


@dataclass(frozen=True, slots=True)
class DepthFrames:
    """Everything that is drawn.

    Attributes:
        frames: `(K, 3, H, W)` RGB.
        inverse_depth: `(K, h, w)`, possibly smaller than the frames.
        poses: `(K, 4, 4)` world-to-camera, of the frames' type.
        intrinsics: `(3, 3)` in pixels of `frames`.
    """

    frames: Tensor
    inverse_depth: Tensor
    poses: Tensor
    intrinsics: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return int(self.frames.shape[-2]), int(self.frames.shape[-1])

    @property
    def depth_size(self) -> tuple[int, int]:
        """(h, w) of the depth."""
        return int(self.inverse_depth.shape[-2]), int(self.inverse_depth.shape[-1])


def nearest_frames(poses: Tensor, pose: Tensor) -> tuple[list[int], Tensor]:
    """Frames from the nearest to the farthest camera, and the squared distances `(K,)` of all.

    Args:
        poses: `(K, 4, 4)` world-to-camera.
        pose: `(4, 4)` world-to-camera of the view.
    """
    relative = poses @ invert_pose(pose)
    turn = (relative[:, :3, :3] - torch.eye(3, dtype=pose.dtype, device=pose.device)).square().sum((1, 2)) / 2
    distance = relative[:, :3, 3].square().sum(1) + TURN_WEIGHT * turn
    return distance.argsort(stable=True).tolist(), distance


def _project(matrix: Tensor, relative: Tensor, rays: Tensor, inverse: Tensor) -> Tensor:
    """Homogeneous pixel positions `(…, 3, N)` of points, over their depth in the first camera.

    Args:
        matrix: `(3, 3)` intrinsics of the second camera.
        relative: `(…, 4, 4)` from the first camera to the second.
        rays: `(3, N)` of the first camera, with z = 1.
        inverse: `(N,)` or `(…, 1, N)` inverse depths in the first camera.
    """
    return torch.addcmul(matrix @ relative[..., :3, :3] @ rays, matrix @ relative[..., :3, 3:], inverse)


def displacements(scene: DepthFrames, pose: Tensor) -> Tensor:
    """Median distance `(K,)` between a surface's places in a view and in each frame, over the frame's shorter side.

    The surfaces are those of the frame whose camera is nearest to the view.

    Args:
        scene: Frames with depth.
        pose: `(4, 4)` world-to-camera of the view.
    """
    nearest = nearest_frames(scene.poses, pose)[0][0]
    inverse = scene.inverse_depth[nearest][::SHIFT_STRIDE, ::SHIFT_STRIDE]
    height, width = int(inverse.shape[0]), int(inverse.shape[1])
    matrix = resize_intrinsics(scene.intrinsics, scene.size, (height, width))
    rays = pixel_rays(matrix, height, width).reshape(-1, 3).T
    relative = scene.poses @ invert_pose(pose)
    moved = _project(matrix, relative, rays, inverse.flatten())
    shift = moved[:, :2] / moved[:, 2:].clamp(min=1e-6) - (matrix @ rays)[:2]
    return shift.norm(dim=1).median(1).values / min(height, width)


def displaced_frames(scene: DepthFrames, pose: Tensor, place: float) -> list[int]:
    """Frames that show a view's surfaces displaced by at least `MIN_SHIFT`, or half as far as any if none do.

    A frame that shows almost the same picture predicts the view whatever the scene behind it: in a slow clip, scenes
    that change would go unnoticed. Near frames are left out only where the others lie both before and after the view:
    at the ends of a clip a farther frame misses content that a nearer one shows. Where the camera rests, all are kept.

    Args:
        scene: Frames with depth, in the order of the clip.
        pose: `(4, 4)` world-to-camera of the view.
        place: Index of the view's own frame, which is never kept, or a number between those of its neighbours.
    """
    others = [index for index in range(len(scene.poses)) if index != place]
    shifts = displacements(scene, pose)
    least = min(MIN_SHIFT, 0.5 * float(shifts.max()))
    kept = [index for index in others if float(shifts[index]) >= least]
    return kept if kept and kept[0] < place < kept[-1] else others


def splat_each(scene: DepthFrames, chosen: list[int], pose: Tensor, intrinsics: Tensor) -> Tensor:
    """Inverse depth `(S, h, w)` of a view from each of the chosen frames by itself, 0 where nothing lands.

    Args:
        scene: Frames with depth.
        chosen: S of them.
        pose: `(4, 4)` world-to-camera of the view.
        intrinsics: `(3, 3)` in pixels of a view of the depth's size.
    """
    height, width = scene.depth_size
    rays = pixel_rays(resize_intrinsics(scene.intrinsics, scene.size, scene.depth_size), height, width)
    relative = pose @ invert_pose(scene.poses[chosen])
    own = scene.inverse_depth[chosen].flatten(1)
    moved = _project(intrinsics, relative, rays.reshape(-1, 3).T, own[:, None])
    z = moved[:, 2]
    x, y, inverse = (moved[:, 0] / z).floor(), (moved[:, 1] / z).floor(), own / z
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > NEAR * own) & (inverse > 0)
    # What falls outside goes to one spare cell.
    place = torch.where(inside, y * width + x, torch.full_like(x, height * width)).long()
    buffer = inverse.new_zeros(len(chosen), height * width + 1).scatter_reduce(1, place, inverse, "amax")
    maps = buffer[:, :-1].reshape(-1, height, width)
    for _ in range(CLOSING_STEPS):
        maps = _close(maps)
    return maps


def _close(maps: Tensor) -> Tensor:
    """Give an empty pixel the mean of its filled neighbours if at least three of the eight are filled."""
    filled = (maps > 0).to(maps.dtype)
    count, total = (9 * functional.avg_pool2d(part[:, None], 3, 1, 1)[:, 0] for part in (filled, maps))
    return torch.where((maps == 0) & (count > 2.5), total / count.clamp(min=1), maps)


def agreed_depth(maps: Tensor) -> Tensor:
    """Inverse depth `(h, w)` that the maps `(S, h, w)` agree on; 0 where all are empty.

    The nearest surface that two of them share, or one where no more than three see anything; the median where no two
    agree.
    """
    valid = maps > 0
    support, total = torch.zeros_like(maps), torch.zeros_like(maps)
    for index, own in enumerate(maps):
        agrees = ((maps - own).abs() <= TOLERANCE * own) & valid
        support[index] = agrees.sum(0) * valid[index]
        total[index] = (agrees * maps).sum(0)
    needed = (valid.sum(0) / 3).ceil().clamp(min=1, max=2)
    believed = (support >= needed) & valid
    best = torch.where(believed, maps, 0).argmax(0, keepdim=True)
    agreed = total.gather(0, best)[0] / support.gather(0, best)[0].clamp(min=1)
    middle = maps.masked_fill(~valid, torch.nan).nanmedian(0).values.nan_to_num()
    return torch.where(believed.any(0), agreed, middle)


def enlarge_depth(inverse: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse depth `(h, w)` at another size: smooth on surfaces, nearest value at edges and holes."""
    if tuple(inverse.shape) == tuple(size):
        return inverse
    maps = inverse[None, None]
    high, low = functional.max_pool2d(maps, 3, 1, 1), -functional.max_pool2d(-maps, 3, 1, 1)
    edges = functional.interpolate(((high - low) > EDGE * high).to(inverse.dtype), size, mode="nearest-exact")
    smooth = functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    return torch.where(edges > 0, functional.interpolate(maps, size, mode="nearest-exact"), smooth)[0, 0]


def view_depth(scene: DepthFrames, order: list[int], pose: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse depth `(H, W)` of a view, 0 where nothing is known.

    Args:
        scene: Frames with depth.
        order: Frames from the nearest on.
        pose: `(4, 4)` world-to-camera of the view.
        intrinsics: `(3, 3)` in pixels of `size`.
        size: (H, W).
    """
    small = resize_intrinsics(intrinsics, size, scene.depth_size)
    return enlarge_depth(agreed_depth(splat_each(scene, order[:NUM_DEPTH_VIEWS], pose, small)), size)


def synthesise(
    scene: DepthFrames, pose: Tensor, intrinsics: Tensor, size: tuple[int, int], among: list[int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One view of the scene.

    Args:
        scene: Frames with depth.
        pose: `(4, 4)` world-to-camera of the view.
        intrinsics: `(3, 3)` in pixels of `size`.
        size: (H, W).
        among: Frames that may contribute colour and depth; all by default.

    Returns:
        RGB `(3, H, W)`, coverage `(H, W)` 0 or 1, and inverse depth `(H, W)`, 0 where nothing is known.
    """
    order, distance = nearest_frames(scene.poses, pose)
    if among is not None:
        order = [index for index in order if index in among]
    inverse = view_depth(scene, order, pose, intrinsics, size)
    colour, seen = _gather(scene, order[:NUM_DEPTH_VIEWS], distance, pose, intrinsics, inverse)
    return colour, (seen & (inverse > 0)).to(colour.dtype), inverse


def _gather(
    scene: DepthFrames, chosen: list[int], distance: Tensor, pose: Tensor, intrinsics: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Colours `(3, H, W)` and whether any of the chosen frames, nearest first, sees the surface, `(H, W)`."""
    height, width = int(inverse.shape[-2]), int(inverse.shape[-1])
    (full_height, full_width), flat = scene.size, inverse.flatten()
    rays = pixel_rays(intrinsics, height, width).reshape(-1, 3).T
    colour, weights = inverse.new_zeros(3, height * width), inverse.new_zeros(height * width)
    fallback, fallback_seen = torch.zeros_like(colour), torch.zeros_like(weights, dtype=torch.bool)
    used = torch.zeros_like(weights)
    farthest = float(distance[chosen].max())
    for index in chosen:
        relative = scene.poses[index] @ invert_pose(pose)
        moved = _project(scene.intrinsics, relative, rays, flat[None])
        z = moved[2].clamp(min=1e-3)
        x, y = moved[0] / z, moved[1] / z
        inside = (x > 0) & (x < full_width) & (y > 0) & (y < full_height) & (moved[2] > NEAR * flat) & (flat > 0)
        place = x[None, None], y[None, None]
        scaled = (
            place[0] * (scene.depth_size[1] / full_width),
            place[1] * (scene.depth_size[0] / full_height),
        )
        own = sample(scene.inverse_depth[index][None, None], *scaled)[0, 0, 0]
        visible = inside & (own <= (1 + TOLERANCE) * flat / z) & (used < NUM_COLOUR_VIEWS)
        looked = sample(scene.frames[index][None], *place)[0, :, 0]
        weight = visible / (float(distance[index]) + 0.02 * farthest + 1e-9)
        colour += weight * looked
        weights += weight
        used += visible
        first = inside & ~fallback_seen
        fallback = torch.where(first, looked, fallback)
        fallback_seen |= inside
    blended = torch.where(weights > 0, colour / weights.clamp(min=1e-12), fallback)
    return blended.clamp(0, 1).reshape(3, height, width), fallback_seen.reshape(height, width)
