"""Regions of real footage whose geometry is not known: textured places, where they move, and how to fill them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_rewards.probes.world.corruptions import pixel_grid

_TRACKING_WIDTH = 96
"""Frames are tracked at this width: a match of a few pixels is precise enough to hold a mask in place."""
_REACH = 0.1
"""Largest motion between neighbouring frames, as a share of the width."""
_NUM_CANDIDATES = 8
_GOOD_ENOUGH = 0.7
"""Share of the best candidate's score from which on the seed may choose another."""


@dataclass(frozen=True, slots=True)
class Region:
    """A round textured region that is followed through a clip.

    Attributes:
        centres: `(T, 2)` x and y in pixels; outside the frame where the region has left it.
        radius: In pixels.
    """

    centres: Tensor
    radius: float

    def distance(self, size: tuple[int, int]) -> Tensor:
        """Distance `(T, H, W)` of every pixel from the region's centre, in radii."""
        x, y = pixel_grid(size)
        return torch.hypot(x - self.centres[:, 0, None, None], y - self.centres[:, 1, None, None]) / self.radius


def plateau(distance: Tensor, inner: float = 0.0) -> Tensor:
    """Smooth weight: 1 up to `inner`, 0 from a distance of 1 on."""
    share = ((1 - distance) / (1 - inner)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def textured_regions(
    frames: Tensor, radius: float, count: int, generator: torch.Generator, since: int = 0
) -> list[Region]:
    """Textured regions, best first, that stay in view and do not overlap in the middle frame.

    Args:
        frames: `(T, 3, H, W)`.
        radius: In pixels.
        count: How many; fewer are returned where the frame has no room.
        generator: Chooses among regions of similar quality.
        since: First frame in which it matters whether a region is in view.
    """
    scale = min(1.0, _TRACKING_WIDTH / frames.shape[-1])
    grey = frames.mean(1, keepdim=True)
    if scale < 1:
        grey = functional.interpolate(grey, scale_factor=scale, mode="area")
    start, small = len(frames) // 2, max(2, round(radius * scale))
    texture = _texture(grey[start, 0], small)
    rated = []
    for x, y in _peaks(texture, small):
        track, match = _follow(grey, (x, y), start, small)
        inside = (track >= small // 2) & (track < torch.tensor([grey.shape[-1], grey.shape[-2]]) - small // 2)
        rated.append((float(texture[y, x]) * float(inside.all(1)[since:].float().mean()) * match, track))
    rated.sort(key=lambda pair: -pair[0])
    good = [track for rating, track in rated if rating >= _GOOD_ENOUGH * rated[0][0]]
    rest = [track for rating, track in rated if rating < _GOOD_ENOUGH * rated[0][0]]
    order = torch.randperm(len(good), generator=generator).tolist()
    tracks = [*(good[index] for index in order), *rest][:count]
    return [Region((track.float() + 0.5) / scale, radius) for track in tracks]


def image_motion(frames: Tensor) -> tuple[float, float]:
    """Mean motion (x, y) of textured regions between neighbouring frames, in pixels."""
    regions = textured_regions(frames, 0.1 * frames.shape[-1], 4, torch.Generator().manual_seed(0))
    steps = torch.cat([region.centres.diff(dim=0) for region in regions])
    if not len(steps):
        return 0.0, 0.0
    x, y = steps.mean(0).tolist()
    return x, y


def fill(frames: Tensor, mask: Tensor, offset: tuple[int, int]) -> Tensor:
    """Replace masked pixels by a copy of a neighbouring place, shaded to meet the surroundings without a seam.

    Args:
        frames: `(N, 3, H, W)`.
        mask: `(N, 1, H, W)` bool.
        offset: From a pixel to the place that is copied, (x, y) in pixels; it must not lie in the mask.
    """
    if not bool(mask.any()):
        return frames
    height, width = frames.shape[-2:]
    rows, columns = (_span(mask.flatten(0, 1).any(0).any(axis)) for axis in (1, 0))
    from_rows = _reflected(torch.arange(height)[rows] + offset[1], height)
    from_columns = _reflected(torch.arange(width)[columns] + offset[0], width)
    part, hidden = frames[..., rows, columns], mask[..., rows, columns]
    copied = frames[:, :, from_rows][..., from_columns]
    filled = frames.clone()
    shaded = (copied + _harmonic(part - copied, hidden)).clamp(0, 1)
    filled[..., rows, columns] = torch.where(hidden, shaded, part)
    return filled


def plain_neighbour(frame: Tensor, centre: tuple[float, float], radius: float) -> tuple[int, int]:
    """Offset (x, y) from a region to the neighbouring place that has least texture and fits its surroundings.

    Args:
        frame: `(3, H, W)`.
        centre: Of the region, (x, y) in pixels.
        radius: Of the region in pixels.
    """
    height, width = frame.shape[-2:]
    texture = _texture(frame.mean(0), round(radius))
    tone = _box(frame, round(radius)) / _box(torch.ones_like(frame), round(radius))
    x, y = (int(min(max(c, 0), n - 1)) for c, n in zip(centre, (width, height), strict=True))
    best, chosen = float("inf"), (0, 0)
    for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
        step = (round(2.3 * radius * right), round(2.3 * radius * down))
        column, row = x + step[0], y + step[1]
        if not (0 <= column < width and 0 <= row < height):
            continue
        cost = float(texture[row, column]) + 0.5 * float((tone[:, row, column] - tone[:, y, x]).abs().mean())
        if cost < best:
            best, chosen = cost, step
    return chosen


def _texture(grey: Tensor, radius: int) -> Tensor:
    """Gradient `(H, W)` across the weaker direction in a square around every pixel: corners count, plain edges do not.

    Root of the smaller eigenvalue of the structure tensor; small near the border.
    """
    right = functional.pad(grey.diff(dim=1), (0, 1))
    down = functional.pad(grey.diff(dim=0), (0, 0, 0, 1))
    xx, yy, xy = _box(torch.stack([right * right, down * down, right * down]), radius)
    spread = ((xx - yy).square() / 4 + xy.square()).sqrt()
    return ((xx + yy) / 2 - spread).clamp(min=0).sqrt()


def _box(values: Tensor, radius: int) -> Tensor:
    """Mean of `(C, H, W)` over a square around every pixel, with zeros beyond the border."""
    columns = functional.avg_pool2d(values, (1, 2 * radius + 1), 1, (0, radius))
    return functional.avg_pool2d(columns, (2 * radius + 1, 1), 1, (radius, 0))


def _peaks(texture: Tensor, radius: int) -> list[tuple[int, int]]:
    """Places (x, y) of most texture, at least two radii apart."""
    height, width = texture.shape
    left = texture.clone()
    x, y = pixel_grid((height, width))
    peaks = []
    for _ in range(_NUM_CANDIDATES):
        row, column = divmod(int(left.argmax()), width)
        if left[row, column] < 0:
            break
        peaks.append((column, row))
        left[torch.hypot(x - 0.5 - column, y - 0.5 - row) < 2 * radius] = -1
    return peaks


def _follow(grey: Tensor, place: tuple[int, int], start: int, radius: int) -> tuple[Tensor, float]:
    """Track `(T, 2)` of a patch from a frame on in both directions, and its mean correlation in [0, 1]."""
    track = torch.zeros(len(grey), 2, dtype=torch.long)
    track[start] = torch.tensor(place)
    matches = [1.0]
    for frames in (range(start + 1, len(grey)), range(start - 1, -1, -1)):
        step = frames.step
        for frame in frames:
            if step > 0 or frame >= 0:
                track[frame], match = _match(grey[frame - step], grey[frame], track[frame - step], radius)
                matches.append(match)
    return track, max(0.0, sum(matches) / len(matches))


def _match(before: Tensor, after: Tensor, place: Tensor, radius: int) -> tuple[Tensor, float]:
    """Place in `after` `(1, H, W)` of the patch around a place of `before`, by normalised correlation."""
    reach = max(2, round(_REACH * before.shape[-1]))
    template = _cut(before, place, radius)
    window = _cut(after, place, radius + reach)
    wanted = template - template.mean()
    length = template.shape[-1]
    squares = functional.avg_pool2d(torch.stack([window, window.square()]), length, 1)
    spread = (squares[1] - squares[0].square()).clamp(min=1e-6).sqrt() * length
    correlation = functional.conv2d(window[None], wanted[None])[0] / (wanted.norm() + 1e-6) / spread
    best = int(correlation.argmax())
    row, column = divmod(best, 2 * reach + 1)
    return place + torch.tensor([column - reach, row - reach]), float(correlation.flatten()[best])


def _cut(image: Tensor, place: Tensor, radius: int) -> Tensor:
    """Square `(1, 2 r + 1, 2 r + 1)` around a place; beyond the image its border is repeated."""
    around = torch.arange(-radius, radius + 1)
    columns = (around + place[0]).clamp(0, image.shape[-1] - 1)
    rows = (around + place[1]).clamp(0, image.shape[-2] - 1)
    return image[:, rows][..., columns]


def _span(marked: Tensor) -> slice:
    """From the first marked index to the last, with a neighbour on either side."""
    index = marked.nonzero()
    return slice(max(0, int(index[0]) - 1), int(index[-1]) + 2)


def _reflected(index: Tensor, length: int) -> Tensor:
    index = index % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def _harmonic(values: Tensor, mask: Tensor) -> Tensor:
    """Values `(N, C, H, W)` whose masked part is the smoothest surface between the rest; coarse to fine."""
    known = (~mask).to(values)
    if not bool(mask.any()) or min(values.shape[-2:]) < 4:
        return values
    weight = functional.avg_pool2d(known, 2, ceil_mode=True)
    coarse = functional.avg_pool2d(values * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    coarse = _harmonic(coarse, weight < 1e-6)
    guess = functional.interpolate(coarse, size=values.shape[-2:], mode="bilinear", align_corners=False)
    found = torch.where(mask, guess, values)
    for _ in range(12):
        padded = functional.pad(found, (1, 1, 1, 1), mode="replicate")
        around = padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2] + padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1]
        found = torch.where(mask, around / 4, values)
    return found
