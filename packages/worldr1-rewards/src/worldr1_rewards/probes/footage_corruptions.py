"""Corruptions and hacks of real footage, made in image space: neither cameras nor geometry need to be known.

They have the names of `worldr1_rewards.probes.world.corruptions` where they do the same. What lies away from the break,
and the first frame where that makes sense, stays as it was filmed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.errors import UserError, suggest
from worldr1_rewards.probes.footage_regions import (
    Region,
    fill,
    image_motion,
    plain_neighbour,
    plateau,
    textured_regions,
)
from worldr1_rewards.probes.world import corruptions
from worldr1_rewards.probes.world.corruptions import pixel_grid, resample, seeded_generator

FOOTAGE_CORRUPTIONS = ("morph", "bend", "swim", "vanish", "flicker", "jitter", "reversed", "wrong_speed", "rushed")
"""The higher the severity, the worse; the first five break the world, the others the path."""
PATH_BREAKS = ("reversed", "wrong_speed", "rushed")
"""Corruptions that break the commanded path alone: without one, or with one that rests, nothing is wrong with them."""
FOOTAGE_HACKS = (
    "frozen",
    "frozen_noise",
    "repeated",
    "zoom2d",
    "slide2d",
    "blur",
    "pure_noise",
    "unrelated",
    "scene_cut",
    "grey_fade",
)
"""Ways to collect reward without showing a world in motion."""

_Break = Callable[[Tensor, float, torch.Generator], Tensor]

_MORPH_RADIUS, _MORPH_SWELL, _MORPH_DRIFT = 0.2, 0.45, 0.04
_SWIM_RADIUS, _SWIM_SLIDE, _NUM_SWIMMING = 0.2, 0.07, 4
_VANISH_RADIUS = 0.1
"""Radii and lengths are shares of the width."""
_JITTER_DEGREES, _JITTER_SHIFT = 1.2, 0.015
"""Standard deviations; the shift is a share of the width."""
_NUM_REPEATED = 3
_ZOOM, _SLIDE = 0.3, 0.25
_NUM_BLOCKS = 4


def corrupt(frames: Tensor, kind: str, severity: float, seed: int, other: Tensor | None = None) -> Tensor:
    """Break a clip; equal arguments give equal frames.

    Args:
        frames: `(T, 3, H, W)` float32 RGB in [0, 1], T >= 2.
        kind: One of `FOOTAGE_CORRUPTIONS` and `FOOTAGE_HACKS`.
        severity: In (0, 1]. `frozen`, `repeated`, `unrelated` and `scene_cut` have full strength at any severity.
        seed: Of the break's randomness, >= 0.
        other: `(N, 3, h, w)` frames of other clips, one after the other; they are cropped to H x W. `scene_cut` cuts to
            the first of them, `unrelated` draws from all of them (from the mirrored and shuffled clip itself by
            default).

    Returns:
        `(T, 3, H, W)` in [0, 1].

    Raises:
        UserError: There is no such kind, the severity is out of range, or `scene_cut` has no other clip.
    """
    if kind not in (*FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS):
        allowed = [*FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS]
        raise UserError(f"Unknown corruption {kind!r}. Allowed: {allowed}.{suggest(kind, allowed)}")
    if not 0 < severity <= 1:
        raise UserError(f"severity must lie in (0, 1], received {severity!r}.")
    generator = seeded_generator(seed, kind)
    if kind == "scene_cut":
        return _cut_to(frames, other)
    if kind == "unrelated":
        return _unrelated(frames, other, generator)
    if kind in _ORDERS:
        return frames[_ORDERS[kind](len(frames), severity)]
    return _BREAKS[kind](frames, severity, generator)


def cropped_to(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of `(N, 3, h, w)` in the size (H, W), without a change of aspect ratio."""
    height, width = size
    if frames.shape[-2:] == (height, width):
        return frames
    scale = max(height / frames.shape[-2], width / frames.shape[-1])
    large_size = (max(height, round(scale * frames.shape[-2])), max(width, round(scale * frames.shape[-1])))
    large = functional.interpolate(frames, large_size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (large_size[0] - height) // 2, (large_size[1] - width) // 2
    return large[..., top : top + height, left : left + width].clamp(0, 1)


def _morphed(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """A textured region swells, shrinks and wanders."""
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    width = size[1]
    regions = textured_regions(frames, _MORPH_RADIUS * width, 1, generator)
    time = torch.linspace(0, 1, len(frames))[:, None, None]
    speed = 1 + 0.5 * torch.rand(3, generator=generator)
    sign = torch.where(torch.rand(3, generator=generator) < 0.5, -1.0, 1.0)
    wave = [sign[k] * torch.sin(2 * math.pi * speed[k] * time) for k in range(3)]
    x, y = pixel_grid(size)
    shift_x, shift_y = torch.zeros(()), torch.zeros(())
    for region in regions:
        weight = plateau(region.distance(size))
        swell = -_MORPH_SWELL * severity * weight * wave[0]
        shift_x = shift_x + swell * (x - region.centres[:, 0, None, None]) + weight * _drift(wave[1], severity, width)
        shift_y = shift_y + swell * (y - region.centres[:, 1, None, None]) + weight * _drift(wave[2], severity, width)
    return resample(frames, x + shift_x, y + shift_y)


def _drift(wave: Tensor, severity: float, width: int) -> Tensor:
    return _MORPH_DRIFT * severity * width * wave


def _swum(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Textures slide steadily inside several regions, each in its own direction, and unevenly."""
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    length = _SWIM_SLIDE * severity * size[1] * torch.linspace(0, 1, len(frames))[:, None, None]
    x, y = pixel_grid(size)
    shift_x, shift_y, covered = torch.zeros(()), torch.zeros(()), torch.full((), 1e-6)
    for region in textured_regions(frames, _SWIM_RADIUS * size[1], _NUM_SWIMMING, generator):
        weight = plateau(region.distance(size), 0.3)
        unevenness = 1 + 0.25 * functional.interpolate(
            torch.randn(1, 1, 4, 4, generator=generator), size, mode="bicubic", align_corners=True
        ).clamp(-2, 2)
        angle = 2 * math.pi * float(torch.rand(1, generator=generator))
        shift_x = shift_x + weight * unevenness[0] * math.cos(angle)
        shift_y = shift_y + weight * unevenness[0] * math.sin(angle)
        covered = covered + weight
    share = length / covered.clamp(min=1)
    return resample(frames, x + share * shift_x, y + share * shift_y)


def _vanished(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """A textured region disappears half-way; at lower severities it is smaller."""
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    half = len(frames) // 2
    radius = max(1.0, _VANISH_RADIUS * size[1] * severity)
    (found,) = textured_regions(frames, _VANISH_RADIUS * size[1], 1, generator, since=half)
    region = Region(found.centres, radius)
    x, y = region.centres[half].tolist()
    offset = plain_neighbour(frames[half], (x, y), radius)
    mask = (region.distance(size) < 1)[half:, None]
    return torch.cat([frames[:half], fill(frames[half:], mask, offset)])


def _jittered(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Every frame but the first is turned, shifted and zoomed just as far as hides its border."""
    num_frames, _, height, width = frames.shape
    draws = torch.randn(num_frames, 3, generator=generator).clamp(-2.5, 2.5) * severity
    draws[0] = 0
    angle = math.radians(_JITTER_DEGREES) * draws[:, 0]
    right, down = (_JITTER_SHIFT * width * draws[:, axis] for axis in (1, 2))
    cos, sin = angle.cos(), angle.sin()
    reach_x, reach_y = cos * width + sin.abs() * height, cos * height + sin.abs() * width
    zoom = torch.minimum((width - 2 * right.abs()) / reach_x, (height - 2 * down.abs()) / reach_y)
    x, y = pixel_grid((height, width))
    x, y = x - width / 2, y - height / 2
    cos, sin, right, down = (part[:, None, None] for part in (zoom * cos, zoom * sin, right, down))
    return resample(frames, width / 2 + cos * x - sin * y + right, height / 2 + sin * x + cos * y + down)


def _zoomed(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """A 2D zoom into the first frame."""
    scales = 1 - _ZOOM * severity * torch.linspace(0, 1, len(frames))
    return _flat(frames, scales, torch.zeros_like(scales))


def _slid(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """A 2D slide over the first frame, in the direction in which the picture of the clip moves."""
    width = frames.shape[-1]
    side = math.copysign(1.0, -image_motion(frames)[0])
    progress = torch.linspace(-0.5, 0.5, len(frames))
    return _flat(frames, torch.full_like(progress, 1 - _SLIDE), side * severity * _SLIDE * width * progress)


def _flat(frames: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    return corruptions.flat_motion(frames[0], size, scales, shifts)


def _still(frames: Tensor) -> Tensor:
    return frames[:1].expand_as(frames).clone()


def _backwards(num_frames: int, severity: float) -> Tensor:
    """Frame indices that end at the first frame: all backwards at severity 1, there and back at 0.5."""
    last = num_frames - 1
    down = round(severity * last)
    start = max(0, 2 * down - last)
    peak = start + last - down
    return torch.cat([torch.arange(start, peak), torch.arange(peak, peak - down - 1, -1)])


def _slower(num_frames: int, severity: float) -> Tensor:
    """Frame indices of a clip that makes 40 % of the way at severity 1."""
    share = 1 - (1 - corruptions.SLOWEST) * severity
    return (share * torch.arange(num_frames) + 0.5).long()


def _faster(num_frames: int, severity: float) -> Tensor:
    """Frame indices of a clip that runs at up to double speed and then stands still."""
    return ((1 + severity) * torch.arange(num_frames) + 0.5).long().clamp(max=num_frames - 1)


def _cut_to(frames: Tensor, other: Tensor | None) -> Tensor:
    if other is None:
        raise UserError("'scene_cut' needs a clip to cut to. Pass its frames as `other`.")
    half = len(frames) // 2
    index = torch.arange(len(frames) - half).clamp(max=len(other) - 1)
    return torch.cat([frames[:half], cropped_to(other[index], (frames.shape[-2], frames.shape[-1]))])


def _unrelated(frames: Tensor, other: Tensor | None, generator: torch.Generator) -> Tensor:
    """Every frame but the first shows another place: drawn from other clips, and mirrored in turn."""
    source = frames if other is None else other
    order = torch.randperm(len(source), generator=generator).tolist()
    shown = [frames[0]]
    for number in range(1, len(frames)):
        frame = cropped_to(source[order[number % len(order)]][None], (frames.shape[-2], frames.shape[-1]))
        frame = _shuffled(frame, generator) if other is None else frame
        flips = [axis for bit, axis in ((1, -1), (2, -2)) if number & bit]
        shown.append(frame[0].flip(flips))
    return torch.stack(shown)


def _shuffled(frame: Tensor, generator: torch.Generator) -> Tensor:
    """A frame `(1, 3, H, W)` whose blocks have changed places; a border that fills no block stays."""
    height, width = (side // _NUM_BLOCKS for side in frame.shape[-2:])
    shuffled = frame.clone()
    order = torch.randperm(_NUM_BLOCKS**2, generator=generator).tolist()
    for place, origin in enumerate(order):
        (to_y, to_x), (y, x) = divmod(place, _NUM_BLOCKS), divmod(origin, _NUM_BLOCKS)
        block = frame[..., y * height : (y + 1) * height, x * width : (x + 1) * width]
        shuffled[..., to_y * height : (to_y + 1) * height, to_x * width : (to_x + 1) * width] = block
    return shuffled


_ORDERS: Mapping[str, Callable[[int, float], Tensor]] = {
    "reversed": _backwards,
    "wrong_speed": _slower,
    "rushed": _faster,
    "repeated": lambda num_frames, severity: torch.arange(num_frames) % max(1, min(_NUM_REPEATED, num_frames // 3)),
}
"""Kind -> indices of the frames that are shown, for breaks in time alone."""

_BREAKS: Mapping[str, _Break] = {
    "morph": _morphed,
    "bend": corruptions.bent,
    "swim": _swum,
    "vanish": _vanished,
    "flicker": corruptions.flickered,
    "jitter": _jittered,
    "frozen": lambda frames, severity, generator: _still(frames),
    "frozen_noise": lambda frames, severity, generator: corruptions.with_noise(_still(frames), severity, generator),
    "zoom2d": _zoomed,
    "slide2d": _slid,
    "blur": lambda frames, severity, generator: corruptions.blurred(frames, severity),
    "pure_noise": corruptions.drowned,
    "grey_fade": lambda frames, severity, generator: corruptions.faded(frames, severity),
}
