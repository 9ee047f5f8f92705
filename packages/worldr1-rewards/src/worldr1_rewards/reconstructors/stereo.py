"""Dense depth of many frames by multi-view stereo: plane sweep and semi-global matching, refined from coarse to fine.

At a coarse size every pixel tries planes over the whole range of depth, and semi-global matching (Hirschmüller, 2008)
in four directions chooses among them. At finer sizes a pixel tries a few depths around its own and its neighbours'
coarse ones. Sources are the nearest frames in time with enough parallax. Only the better half of them counts at every
depth, since a surface may be hidden in the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose as invert
from worldr1_core.camera.geometry import scale_intrinsics as resize_intrinsics
from worldr1_rewards.reconstructors.pyramid import luma
from worldr1_rewards.reconstructors.rigid import pixel_rays
from worldr1_rewards.reconstructors.semi_global import aggregate, interpolated_minimum

NUM_PLANES = 56
COARSE_SIDE = 64
"""Shorter side in pixels of the sweep over the whole range."""
MAX_FINE_SIDE = 256
OFFSETS = ((1, 3), (1, 2), (1,))
"""Offsets, in both directions of time, of the frames that a frame is compared with, from coarse to fine."""
LEAST_PARALLAX = 0.4 / COARSE_SIDE
"""Share of the shorter side by which near and far surfaces must move apart in a source: 0.4 pixels of the sweep."""
TRUNCATION = 0.12
"""Difference of features at which the cost of a source is truncated."""
UNSEEN = 0.07
"""Cost of a source that does not see the point."""
STAY = 0.004
"""Least reduction in cost for which a pixel takes a neighbour's depth."""
CONTRAST_FLOOR = 0.03
"""Local standard deviation below which texture is not amplified further."""
NORMAL_WEIGHT = 0.15
GRADIENT_WEIGHT = 2.0
"""Weights of locally normalised grey and of its derivatives beside grey itself."""
MIN_DEPTH = 0.02


@dataclass(frozen=True, slots=True)
class StereoViews:
    """Frames with known cameras.

    Attributes:
        frames: `(T, 3, H, W)` RGB in [0, 1].
        poses: `(T, 4, 4)` world-to-camera, of the frames' type.
        intrinsics: `(3, 3)` in pixels of `frames`.
        ranges: `(T, 2)` least and largest inverse depth of what each frame shows.
    """

    frames: Tensor
    poses: Tensor
    intrinsics: Tensor
    ranges: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.frames.shape[-2]), int(self.frames.shape[-1])


def stereo_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes from coarse to fine at which depth of frames of `size` (H, W) is sought."""
    height, width = size
    shorter = min(height, width)
    sides = [min(COARSE_SIDE, shorter)]
    while sides[-1] * 2 <= min(MAX_FINE_SIDE, shorter // 2) and len(sides) < len(OFFSETS):
        sides.append(sides[-1] * 2)
    return [(max(1, round(height * side / shorter)), max(1, round(width * side / shorter))) for side in sides]


def stereo_depth(views: StereoViews) -> Tensor:
    """Inverse depth `(T, h, w)` of every frame, at the last of `stereo_sizes`."""
    sizes = stereo_sizes(views.size)
    features, guide, matrix = _prepare(views, sizes[0])
    inverse = _sweep_planes(views, features, guide, matrix)
    for level, size in enumerate(sizes[1:], start=1):
        features, _, matrix = _prepare(views, size)
        inverse = _refine(views, features, matrix, inverse, level)
    return inverse


def _prepare(views: StereoViews, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Features `(T, 4, h, w)`, grey `(T, h, w)` and intrinsics at a size."""
    shrunk = functional.interpolate(views.frames, size, mode="area") if size != views.size else views.frames
    grey = luma(shrunk)
    return matching_features(grey), grey[:, 0], resize_intrinsics(views.intrinsics, views.size, size)


def matching_features(grey: Tensor) -> Tensor:
    """Compute the compared features `(T, 4, h, w)`: grey, grey without local mean and contrast, and its derivatives."""
    centred = grey - box(grey, 3)
    contrast = box(centred.square(), 3).sqrt() + CONTRAST_FLOOR
    grad_x = functional.pad(grey[..., 2:] - grey[..., :-2], (1, 1)) / 2
    grad_y = functional.pad(grey[..., 2:, :] - grey[..., :-2, :], (0, 0, 1, 1)) / 2
    return torch.cat([grey, NORMAL_WEIGHT * centred / contrast, GRADIENT_WEIGHT * grad_x, GRADIENT_WEIGHT * grad_y], 1)


def box(images: Tensor, radius: int) -> Tensor:
    """Mean over `(2 radius + 1)²` pixels of `(N, C, h, w)` with replicated borders."""
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, 2 * radius + 1, 1)


def choose_sources(views: StereoViews, frame: int, offsets: tuple[int, ...]) -> list[int]:
    """Choose the frames that a frame is compared with.

    In both directions of time, the frames at the offsets are chosen. A frame from which hardly any depth can be told,
    because the camera rests in between, is replaced by the next one in its direction that has enough parallax. A frame
    that no other has parallax with keeps those at the offsets.

    Args:
        views: Frames with known cameras.
        frame: The frame whose depth is sought.
        offsets: Positive offsets. In clips that are too short for them, all offsets within reach are taken.

    Returns:
        Frames in the order of time, without repetitions.
    """
    num_frames = len(views.frames)
    if num_frames <= 2 * max(offsets):
        offsets = tuple(range(1, max(offsets) + 1))
    is_wide = (parallax(views, frame) >= LEAST_PARALLAX).tolist()
    near: set[int] = set()
    chosen: set[int] = set()
    for offset in offsets:
        for step in (-1, 1):
            first = frame + step * offset
            onwards = range(first, -1 if step < 0 else num_frames, step)
            near.update(onwards[:1])
            found = next((source for source in onwards if is_wide[source] and source not in chosen), None)
            if found is not None:
                chosen.add(found)
    return sorted(chosen or near)


def parallax(views: StereoViews, frame: int) -> Tensor:
    """Compute how far the nearest and the farthest surfaces of a frame move apart in each of the frames, `(T,)`.

    It is the mean distance between the positions of both depths, over nine pixels, as a share of the shorter side.
    """
    height, width = views.size
    shares = views.poses.new_tensor([0.25, 0.5, 0.75])
    y, x = torch.meshgrid(shares * height, shares * width, indexing="ij")
    rays = torch.linalg.inv(views.intrinsics) @ torch.stack([x.flatten(), y.flatten(), torch.ones_like(x.flatten())])
    relative = views.poses @ invert(views.poses[frame])
    ends = []
    for rho in views.ranges[frame]:
        moved = views.intrinsics @ (relative[:, :3, :3] @ rays + relative[:, :3, 3:] * rho)
        ends.append(moved[:, :2] / moved[:, 2:].clamp(min=1e-3))
    return (ends[1] - ends[0]).norm(dim=1).mean(1) / min(height, width)


def matching_cost(
    features: Tensor, matrix: Tensor, relative: Tensor, target: Tensor, sources: list[int], rho: Tensor
) -> Tensor:
    """Cost `(d, h * w)` of hypothetical inverse depths, mean over the better half of the sources.

    Args:
        features: `(T, C, h, w)`.
        matrix: `(3, 3)` intrinsics in pixels of the features.
        relative: `(S, 4, 4)` poses from the target to the sources.
        target: `(C, h, w)` features of the frame whose depth is sought.
        sources: S frames.
        rho: `(d, h * w)` inverse depths; rows may be expanded.
    """
    height, width = int(features.shape[-2]), int(features.shape[-1])
    rays = pixel_rays(matrix, height, width).reshape(-1, 3).T
    # Positions from -1 to 1 across the source, as homogeneous rows.
    scale = matrix.new_tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]]) @ matrix
    far, near = scale @ relative[:, :3, :3] @ rays, scale @ relative[:, :3, 3:]
    expected = target.reshape(target.shape[0], 1, -1)
    costs = []
    for index, source in enumerate(sources):
        z = torch.addcmul(far[index, 2], near[index, 2], rho)
        inverse_z = z.clamp(min=1e-3).reciprocal_()
        grid = rho.new_empty(*rho.shape, 2)
        for axis in (0, 1):
            torch.mul(torch.addcmul(far[index, axis], near[index, axis], rho), inverse_z, out=grid[..., axis])
        hidden = (grid.abs().amax(-1) > 1) | (z < MIN_DEPTH)
        seen = functional.grid_sample(features[source][None], grid[None], padding_mode="border", align_corners=False)
        cost = seen[0].sub_(expected).abs_().mean(0).clamp_(max=TRUNCATION)
        costs.append(torch.where(hidden, cost.new_tensor(UNSEEN), cost))
    return mean_of_least(costs, max(1, round(len(costs) / 2)))


def mean_of_least(values: list[Tensor], count: int) -> Tensor:
    """Mean of the `count` least of a few tensors, element by element (an insertion network: faster than sorting)."""
    least: list[Tensor] = []
    for value in values:
        rest = value
        for index, held in enumerate(least):
            least[index], rest = torch.minimum(held, rest), torch.maximum(held, rest)
        if len(least) < count:
            least.append(rest)
    return torch.stack(least).mean(0) if len(least) > 1 else least[0]


def plane_depths(ranges: Tensor, count: int) -> Tensor:
    """`(T, D)` inverse depths from the least to the largest, evenly spaced in their square root.

    Between even steps of disparity and even steps of depth: near surfaces get enough planes, far ones too.
    """
    share = torch.linspace(0, 1, count, dtype=ranges.dtype, device=ranges.device)
    low, high = ranges.clamp(min=1e-6).sqrt().unbind(1)
    return (low[:, None] + (high - low)[:, None] * share).square()


def _sweep_planes(views: StereoViews, features: Tensor, guide: Tensor, matrix: Tensor) -> Tensor:
    num_frames, height, width = guide.shape
    planes = plane_depths(views.ranges, NUM_PLANES)
    back = invert(views.poses)
    volumes = []
    for frame in range(num_frames):
        sources = choose_sources(views, frame, OFFSETS[0])
        hypotheses = planes[frame][:, None].expand(-1, height * width)
        relative = views.poses[sources] @ back[frame]
        volumes.append(matching_cost(features, matrix, relative, features[frame], sources, hypotheses))
    costs = box(torch.stack(volumes).reshape(num_frames, NUM_PLANES, height, width), 1)
    return interpolated_minimum(aggregate(costs, guide), planes)


def _refine(views: StereoViews, features: Tensor, matrix: Tensor, inverse: Tensor, level: int) -> Tensor:
    """Depth at the size of `features` from depth at half of it."""
    num_frames, height, width = features.shape[0], int(features.shape[-2]), int(features.shape[-1])
    root_range = views.ranges.sqrt()
    steps = (root_range[:, 1] - root_range[:, 0]) / NUM_PLANES / 2**level
    bases = _base_depths(inverse, (height, width)).sqrt()
    offsets = inverse.new_tensor([-1.0, 0.0, 1.0])
    back = invert(views.poses)
    refined = []
    for frame in range(num_frames):
        sources = choose_sources(views, frame, OFFSETS[level])
        base = bases[:, frame].flatten(1)
        hypotheses = (base[:, None] + (offsets * steps[frame])[None, :, None]).clamp(min=1e-3).square().flatten(0, 1)
        relative = views.poses[sources] @ back[frame]
        costs = matching_cost(features, matrix, relative, features[frame], sources, hypotheses)
        costs = box(costs.reshape(1, -1, height, width), 1).reshape(len(base), len(offsets), -1)
        costs[1:] += STAY
        chosen = costs.amin(1).argmin(0)
        own = costs.gather(0, chosen[None, None].expand(1, len(offsets), -1))[0]
        offset = parabola_offset(*own)
        root = base.gather(0, chosen[None])[0] + offset * steps[frame]
        refined.append(root.clamp(min=1e-3).square().reshape(height, width))
    return torch.stack(refined)


def parabola_offset(low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
    """Minimum, in [-1, 1] steps, of a parabola through three evenly spaced costs; the cheaper end where it has none."""
    bend = low - 2 * middle + high
    inner = (0.5 * (low - high) / bend.clamp(min=1e-6)).clamp(-1, 1)
    ends = torch.where(low < high, -torch.ones_like(inner), torch.ones_like(inner))
    return torch.where(bend > 1e-6, inner, torch.where((middle <= low) & (middle <= high), 0 * inner, ends))


def _base_depths(inverse: Tensor, size: tuple[int, int]) -> Tensor:
    """`(3, T, h, w)` enlarged inverse depth: interpolated, and the largest and least of the coarse neighbours."""
    maps = inverse[:, None]
    smooth = functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    near = functional.interpolate(functional.max_pool2d(maps, 3, 1, 1), size, mode="nearest-exact")
    far = functional.interpolate(-functional.max_pool2d(-maps, 3, 1, 1), size, mode="nearest-exact")
    return torch.stack([smooth, near, far])[:, :, 0]
