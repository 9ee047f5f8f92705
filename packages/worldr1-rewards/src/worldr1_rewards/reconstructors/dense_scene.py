"""Scene of dense stereo: frames with depth, rendered from any view, each frame predicted without itself."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy
import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_rewards.reconstructors.stereo import StereoViews, stereo_depth, stereo_sizes
from worldr1_rewards.reconstructors.view_synthesis import (
    DepthFrames,
    displaced_frames,
    enlarge_depth,
    nearest_frames,
    synthesise,
    view_depth,
)

MAX_DEPTH_FRAMES = 24
"""Number of frames whose depth is estimated, and from which all views are rendered."""
RANGE_QUANTILES = (0.02, 0.98)
RANGE_MARGINS = (0.6, 5.0)
"""The planes span these quantiles of the points' inverse depth, times these factors: what passes close by, a door post
say, has few points of its own."""
MIN_RANGE_POINTS = 8


@dataclass(frozen=True, kw_only=True)
class DenseReconstruction(Reconstruction):
    """Cameras, frames with depth, and views of them.

    Attributes:
        scene: Frames with depth, from which views are drawn.
        scene_frames: Which frames of the clip they are.
    """

    scene: DepthFrames
    scene_frames: list[int]

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Render views; see `Reconstruction.render`. Holes keep coverage 0 and depth infinity."""
        poses = invert_pose(c2w.to(self.scene.poses))
        return _stack([synthesise(self.scene, pose, intrinsics.to(pose), size) for pose in poses])

    def rerender(self) -> Render:
        """Render every frame from frames that show its surfaces elsewhere; drawn once and kept.

        A frame's own colours and depth, and those of frames that show almost the same picture, take no part.
        """
        return self._rerender

    def rerender_frames(self, frames: Tensor) -> Render:
        """The same in the given colours, drawn anew; see `Reconstruction.rerender_frames`."""
        return self._draw(replace(self.scene, frames=frames[self.scene_frames].to(self.scene.frames)))

    @functools.cached_property
    def _rerender(self) -> Render:
        return self._draw(self.scene)

    def _draw(self, scene: DepthFrames) -> Render:
        assert self.trajectory.intrinsics is not None
        poses = invert_pose(self.trajectory.c2w.to(scene.poses))
        matrix = self.trajectory.intrinsics.to(poses)
        places = numpy.interp(range(len(poses)), self.scene_frames, range(len(self.scene_frames))).tolist()
        views = [
            synthesise(scene, pose, matrix, scene.size, displaced_frames(scene, pose, place))
            for pose, place in zip(poses, places, strict=True)
        ]
        return _stack(views)


def _stack(views: list[tuple[Tensor, Tensor, Tensor]]) -> Render:
    frames, coverage, inverse = (torch.stack(parts) for parts in zip(*views, strict=True))
    return Render(frames, coverage, torch.where(inverse > 0, 1 / inverse.clamp(min=1e-6), torch.inf))


def depth_ranges(points: Tensor, poses: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """Least and largest inverse depth `(T, 2)` of what each camera shows, from sparse points.

    Args:
        points: `(N, 3)` in the world of `poses`.
        poses: `(T, 4, 4)` world-to-camera.
        intrinsics: `(3, 3)` in pixels of `size`.
        size: (H, W).
    """
    local = points @ poses[:, :3, :3].transpose(1, 2) + poses[:, None, :3, 3]
    z = local[..., 2]
    pixels = (local @ intrinsics.to(local).T)[..., :2] / z.clamp(min=1e-6)[..., None]
    limits = pixels.new_tensor([size[1], size[0]])
    shown = (z > 1e-3) & (pixels > 0).all(-1) & (pixels < limits).all(-1)
    quantiles = z.new_tensor(RANGE_QUANTILES)
    ranges = []
    for depth, inside in zip(z, shown, strict=True):
        chosen = inside if int(inside.sum()) >= MIN_RANGE_POINTS else depth > 1e-3
        inverse = 1 / depth[chosen] if bool(chosen.any()) else z.new_ones(1)
        low, high = torch.quantile(inverse, quantiles).tolist()
        ranges.append([RANGE_MARGINS[0] * low, RANGE_MARGINS[1] * high])
    return z.new_tensor(ranges)


def dense_scene(
    frames: Tensor, poses: Tensor, intrinsics: Tensor, points: Tensor | None, chosen: list[int]
) -> tuple[DepthFrames, float]:
    """Depth of the chosen frames, in units of the median depth of the first.

    Args:
        frames: `(T, 3, H, W)` RGB.
        poses: `(T, 4, 4)` float64 world-to-camera.
        intrinsics: `(3, 3)` in pixels of the frames.
        points: `(N, 3)` points of the scene, or `None` for a camera that does not move: its depth is all 1.
        chosen: Frames whose depth is sought.

    Returns:
        The scene in its unit of length, and that unit in the unit of `poses`.
    """
    images = frames[chosen]
    some = poses[chosen].to(images.dtype)
    matrix = intrinsics.to(images)
    size = int(frames.shape[-2]), int(frames.shape[-1])
    if points is None:
        inverse = images.new_ones(len(chosen), *stereo_sizes(size)[-1])
        return DepthFrames(images, inverse, some, matrix), 1.0
    ranges = depth_ranges(points.to(images), some, matrix, size)
    inverse = stereo_depth(StereoViews(images, some, matrix, ranges))
    unit = float((1 / inverse[0]).median())
    some = some.clone()
    some[:, :3, 3] /= unit
    return DepthFrames(images, inverse * unit, some, matrix), unit


def frame_depths(scene: DepthFrames, scene_frames: list[int], poses: Tensor) -> Tensor:
    """Z-depth `(T, H, W)` of every frame: its own where it has one, else what the nearest frames agree on.

    Where nothing is known a pixel counts as far as the farthest tenth of the scene.

    Args:
        scene: Frames with depth.
        scene_frames: Which frames of the clip they are.
        poses: `(T, 4, 4)` world-to-camera of all frames, in the unit of the scene.
    """
    own = {frame: index for index, frame in enumerate(scene_frames)}
    sample = scene.inverse_depth.flatten()
    far = sample[:: max(1, len(sample) // 2**20)].quantile(0.1)
    maps = []
    for frame, pose in enumerate(poses):
        if frame in own:
            inverse = enlarge_depth(scene.inverse_depth[own[frame]], scene.size)
        else:
            order, _ = nearest_frames(scene.poses, pose)
            inverse = view_depth(scene, order, pose, scene.intrinsics, scene.size)
        maps.append(1 / torch.where(inverse > 0, inverse, far))
    return torch.stack(maps)
