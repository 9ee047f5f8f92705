"""Tensors to pictures: colour maps, contact strips and small data URIs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldr1_core.frame_grid import pick_frames
from worldr1_core.pages.encoding import resize
from worldr1_rewards.report.views import MIN_COVERAGE, ClipViews

NUM_THUMBNAILS = 8
THUMBNAIL_SIDE = 256
STRIP_BYTES = 22 * 1024
"""Limit of a strip's picture: four strips, a video and a point cloud per clip keep a page of 10 clips under 5 MB."""

ERROR_CEILING = 0.25
"""Mean absolute error at the bright end of the error map: the same in every clip, so that clips compare by eye."""

DEPTH_MAP, ERROR_MAP = "viridis", "inferno"
_MOVING_COLOUR = (0.9, 0.45, 0.0)


@dataclass(frozen=True, slots=True)
class DepthRange:
    """Depths at the two ends of the depth map, in scene depths; between them the map is linear in 1 / depth."""

    near: float
    far: float

    @property
    def middle(self) -> float:
        """Depth at the centre of the map."""
        return 2 / (1 / self.near + 1 / self.far)


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of evenly spaced frames.

    Attributes:
        name: `"input"`, `"rerender"`, `"error"`, `"depth"` or `"moving"`.
        tiles: `(N, 3, h, w)` RGB in [0, 1].
    """

    name: str
    tiles: Tensor


@dataclass(frozen=True, slots=True)
class Strips:
    """The rows of a clip, all with the same frames at the same size.

    Attributes:
        indices: Frame indices, in order.
        rows: Input first, then what there is of re-render, error, depth and motion mask.
        depth_range: Legend of the depth row, if there is one.
    """

    indices: list[int]
    rows: list[Strip]
    depth_range: DepthRange | None


def clip_strips(views: ClipViews, *, count: int = NUM_THUMBNAILS, side: int = THUMBNAIL_SIDE) -> Strips:
    """Choose, shrink and colour the frames that stand for a clip.

    Args:
        views: The clip's pictures at full size.
        count: Frames at most.
        side: Longer side of a tile at most, in pixels.
    """
    indices = pick_frames(len(views.frames), count)
    height, width = views.frames.shape[-2:]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows = [Strip("input", resize(views.frames[indices], size))]
    if views.rerender is not None and views.coverage is not None and views.error is not None:
        holes = resize(views.coverage[indices][:, None], size)[:, 0] < MIN_COVERAGE
        rows.append(Strip("rerender", with_holes(resize(views.rerender[indices], size), holes)))
        error = resize(views.error[indices][:, None].nan_to_num(nan=0.0), size)[:, 0]
        rows.append(Strip("error", with_holes(colour_error(error), holes)))
    depth_range = None
    if views.depth is not None:
        depth_range = depth_ends(views.depth)
        rows.append(Strip("depth", _depth_tiles(views.depth[indices], depth_range, size)))
    if views.moving is not None:
        moving = resize(views.moving[indices][:, None], size)
        rows.append(Strip("moving", mark_moving(rows[0].tiles, moving)))
    return Strips(indices, rows, depth_range)


def colour_error(error: Tensor) -> Tensor:
    """Errors `(N, H, W)` in [0, 1] as `(N, 3, H, W)` colours; `ERROR_CEILING` and more are brightest."""
    return apply_map(error / ERROR_CEILING, ERROR_MAP)


def depth_ends(depth: Tensor) -> DepthRange:
    """Near and far end of a depth map: the 2nd and 98th percentile of the positive finite depths."""
    values = depth[torch.isfinite(depth) & (depth > 0)]
    values = values[:: max(1, values.numel() // 100_000)].double()
    near, far = torch.quantile(values, torch.tensor([0.02, 0.98], dtype=torch.float64)).tolist()
    return DepthRange(near, max(far, near * 1.001))


def colour_depth(depth: Tensor, ends: DepthRange) -> Tensor:
    """Depths `(N, H, W)` as `(N, 3, H, W)` colours, near bright and far dark, holes where there is no depth."""
    known = torch.isfinite(depth) & (depth > 0)
    disparity = 1 / torch.where(known, depth, ends.far)
    share = (disparity - 1 / ends.far) / (1 / ends.near - 1 / ends.far)
    return with_holes(apply_map(share, DEPTH_MAP), ~known)


def _depth_tiles(depth: Tensor, ends: DepthRange, size: tuple[int, int]) -> Tensor:
    # Coloured first: averaging depths across an occlusion edge would invent surfaces in between.
    return resize(colour_depth(depth, ends), size)


def mark_moving(frames: Tensor, moving: Tensor) -> Tensor:
    """Frames `(N, 3, H, W)` in grey, with what moves by itself in orange; `moving` is `(N, 1, H, W)` in [0, 1]."""
    grey = 0.25 + 0.6 * frames.mean(dim=1, keepdim=True)
    orange = frames.new_tensor(_MOVING_COLOUR)[:, None, None]
    return torch.lerp(grey.expand_as(frames), (0.3 * grey + 0.7 * orange).expand_as(frames), moving)


def with_holes(images: Tensor, holes: Tensor) -> Tensor:
    """Images `(N, 3, H, W)` with a grey chequerboard, which no scene shows by chance, where `holes` `(N, H, W)`."""
    height, width = images.shape[-2:]
    cell = max(2, min(height, width) // 24)
    rows, columns = torch.meshgrid(torch.arange(height) // cell, torch.arange(width) // cell, indexing="ij")
    board = torch.where((rows + columns) % 2 == 0, 0.62, 0.74)
    return torch.where(holes[:, None], board, images)


def apply_map(values: Tensor, name: str) -> Tensor:
    """Values `(N, H, W)`, clipped to [0, 1], as `(N, 3, H, W)` colours of a map of matplotlib."""
    indices = (values.clamp(0, 1) * 255).round().long()
    return _table(name)[indices].movedim(-1, 1)


def map_colours(name: str, count: int) -> list[str]:
    """Evenly spaced colours of a map from its low to its high end, as `#rrggbb`."""
    picks = torch.linspace(0, 255, count).round().long()
    return ["#" + bytes(colour).hex() for colour in (_table(name)[picks] * 255).round().byte().tolist()]


@functools.cache
def _table(name: str) -> Tensor:
    from matplotlib import colormaps

    return torch.from_numpy(np.asarray(colormaps[name](np.arange(256)))[:, :3].astype(np.float32))
