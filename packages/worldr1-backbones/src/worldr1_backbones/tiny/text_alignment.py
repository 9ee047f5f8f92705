"""The reward `tiny-text-alignment`: does a clip show what its caption says? The tiny world's R_gen.

It stands where the large presets have a preference model. A small network reads every frame (`scene_reader`); the rest
is arithmetic: what it found is compared with what the caption promises along the commanded path.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_backbones.tiny.captions import COLOURS, SHAPES, TEXTURES, Caption, CaptionError, parse_caption
from worldr1_backbones.tiny.scene_reader import GRID, Reading, SceneReader, shipped_reader
from worldr1_backbones.tiny.scenes import IMAGE_SIZE, Solid, commanded_trajectory
from worldr1_core.camera.vocabulary import SINGLE_MOVES, Move
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import BatchReward, RewardInputs, Score, scatter_scores

SMALLEST_SIDE = 32
"""Pixels below which a clip is not read."""
LEAST_CONTRAST = 1e-3
"""Standard deviation of the pixels below which a clip shows nothing."""
HALF_COVER = 0.4
"""Share of the expected area that counts half as much as infinitely much."""
LARGEST = 2.0
"""Multiple of the largest area along the path beyond which more of a colour is no object, and loses."""
TEMPERATURE = 2.0
"""Divides logits: probabilities of a clip that is easy to read keep room for better and worse ones."""
ORDER_SCALE = 0.1
"""Distance from left to right, in widths of the picture, that makes the order e times likelier than not."""
WEIGHTS = {"colour": 2.0, "shape": 1.0, "order": 1.0, "room": 1.0, "texture": 1.0}
"""Of each fact in the mean. A missing object costs its colour, its shape and the order."""

_TYPICAL_HALF, _TYPICAL_X, _TYPICAL_Z, _TYPICAL_FLOOR = 0.15, 0.2, 1.06, 0.29
_IN_SIGHT = 0.5
"""Share of an object inside the picture from which on a frame may be the worst one."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The area of each object that a caption promises.

    Attributes:
        area: `(S, T)` share of the picture that the square around the object covers, seen along the path.
        inside: `(S, T)` share of that square inside the picture, in [0, 1].
        square: `(S, T, GRID, GRID)` share of each place of the picture that the square covers.
    """

    area: Tensor
    inside: Tensor
    square: Tensor


@lru_cache(maxsize=4096)
def expected_objects(
    moves: tuple[Move, ...], num_objects: int, motion: tuple[int, str] | None, num_frames: int
) -> Expected:
    """Where typical objects are seen along the commanded path; the mean of the nine moves where none is commanded.

    Args:
        moves: Commanded moves.
        num_objects: 1 or 2.
        motion: Which object moves, and how.
        num_frames: T.
    """
    paths = [moves] if moves else [(move,) for move in SINGLE_MOVES]
    found = [_seen(path, num_objects, motion, num_frames) for path in paths]
    return Expected(*(torch.stack([getattr(e, part.name) for e in found]).mean(0) for part in fields(Expected)))


def _seen(moves: Sequence[Move], num_objects: int, motion: tuple[int, str] | None, num_frames: int) -> Expected:
    path = commanded_trajectory(moves, num_frames)
    assert path.intrinsics is not None
    focal = float(path.intrinsics[0, 0]) / IMAGE_SIZE
    steps = torch.linspace(-1, 1, 9) * _TYPICAL_HALF
    dy, dx = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
    square = torch.stack([dx, dy, torch.zeros_like(dx)], dim=-1)
    areas, insides, squares = [], [], []
    fine = (torch.arange(GRID * 4) + 0.5) / (GRID * 4) - 0.5
    for index in range(num_objects):
        x = 0.0 if num_objects == 1 else (2 * index - 1) * _TYPICAL_X
        moving = motion[1] if motion is not None and motion[0] == index else None
        solid = Solid("box", "gray", _TYPICAL_HALF, x, _TYPICAL_Z, moving)
        points = solid.centres(_TYPICAL_FLOOR, num_frames)[:, None] + square
        local = (points - path.positions[:, None].float()) @ path.rotations.float()
        z = local[..., 2].clamp(min=0.05)
        inside = ((local[..., :2] / z[..., None] * focal).abs().amax(-1) < 0.5) & (local[..., 2] > 0.05)
        insides.append(inside.float().mean(-1))
        middle = (solid.centres(_TYPICAL_FLOOR, num_frames) - path.positions.float())[:, None] @ path.rotations.float()
        depth = middle[..., 2].clamp(min=0.05)
        reach = _TYPICAL_HALF * focal / depth
        across = ((fine - middle[..., 0] / depth * focal).abs() < reach) & (middle[..., 2] > 0.05)
        down = (fine - middle[..., 1] / depth * focal).abs() < reach
        whole = (down[:, :, None] & across[:, None, :]).float()
        squares.append(functional.avg_pool2d(whole[:, None], 4)[:, 0])
        areas.append((inside * (2 * _TYPICAL_HALF * focal / z) ** 2).mean(-1))
    return Expected(torch.stack(areas), torch.stack(insides), torch.stack(squares))


def grade_facts(reading: Reading, caption: Caption, fill: Tensor) -> dict[str, Tensor]:
    """How far one clip bears out each fact of its caption.

    Args:
        reading: Of the clip's T frames.
        caption: What it should show.
        fill: `SceneReader.fill`.

    Returns:
        Fact -> value in [0, 1], without dimensions: `colour: red`, `shape: red box`, `order`, `room`, `texture`.
    """
    num_frames = len(reading.room)
    expected = expected_objects(caption.moves, len(caption.objects), caption.motion, num_frames)
    facts: dict[str, Tensor] = {}
    present, centres = [], []
    for index, (colour, shape) in enumerate(caption.objects):
        cover = reading.cover[:, COLOURS.index(colour)]
        kind = SHAPES.index(shape)
        area, inside = expected.area[index] * fill[kind], expected.inside[index]
        present.append(_presence(cover.mean((1, 2)), area, inside))
        logits = torch.einsum("tgh,tkgh->k", cover, reading.shape) / cover.sum().clamp(min=1e-3)
        facts[f"colour: {colour}"] = present[-1]
        facts[f"shape: {colour} {shape}"] = present[-1] * (logits / TEMPERATURE).softmax(0)[kind]
        centres.append(_centre(cover))
    if len(present) == 2:
        both = expected.inside.amin(0).clamp(min=0.05)
        apart = torch.sigmoid((centres[1] - centres[0]) / ORDER_SCALE)
        facts["order"] = (apart * both).sum() / both.sum() * torch.minimum(*present)
    facts["room"] = (reading.room.mean(0) / TEMPERATURE).softmax(0)[COLOURS.index(caption.room)]
    facts["texture"] = (reading.texture.mean(0) / TEMPERATURE).softmax(0)[TEXTURES.index(caption.texture)]
    return facts


def place_objects(reading: Reading, caption: Caption, fill: Tensor) -> Tensor:
    """How well every place of the picture keeps to the caption's objects: `(GRID, GRID)`, at most 0.

    A place that an object must cover, wherever in its scene's margin it stands, loses the square of what it lacks; one
    that no object of this colour may reach loses the square of what is there. Between them nothing is asked. Sum over
    the objects, mean over the frames.

    Args:
        reading: Of the clip's T frames.
        caption: What it should show.
        fill: `SceneReader.fill`.
    """
    expected = expected_objects(caption.moves, len(caption.objects), caption.motion, len(reading.room))
    missed = torch.zeros(GRID, GRID)
    for index, (colour, shape) in enumerate(caption.objects):
        cover = reading.cover[:, COLOURS.index(colour)]
        square = expected.square[index][:, None]
        must = -functional.max_pool2d(-square, (1, 3), 1, (0, 1))[:, 0] * fill[SHAPES.index(shape)]
        may = functional.max_pool2d(square, 3, 1, 1)[:, 0]
        missed += ((must - cover).clamp(min=0).square() + (cover - may).clamp(min=0).square()).mean(0)
    return -missed


def alignment(facts: Mapping[str, float]) -> float:
    """Weighted mean of facts, in [0, 1]."""
    weights = _weights(facts)
    return sum(w * value for w, value in zip(weights, facts.values(), strict=True)) / sum(weights)


def _weights(facts: Iterable[str]) -> list[float]:
    return [WEIGHTS[name.split(":")[0]] for name in facts]


def _presence(cover: Tensor, area: Tensor, inside: Tensor) -> Tensor:
    """Whether an object is there and stays: half the mean over time, half the worst frame; in [0, 1].

    Args:
        cover: `(T,)` share of the picture in which it was found.
        area: `(T,)` share that it should cover along the path.
        inside: `(T,)` share of it inside the picture. Frames that it should have left do not count.
    """
    wanted = torch.minimum(area, area[0]).clamp(min=1e-3)  # a push that falls short is for other rewards
    ratio = cover / wanted
    excess = (cover / (LARGEST * area.max())).clamp(min=1)
    seen = ((1 + HALF_COVER**2) * ratio**2 / (ratio**2 + HALF_COVER**2)).clamp(max=1) / excess**2
    mean = (seen * inside).sum() / inside.sum().clamp(min=1e-3)
    worst = torch.where(inside >= _IN_SIGHT, seen, 1.0).amin()
    return (mean + torch.minimum(worst, mean)) / 2


def _centre(cover: Tensor) -> Tensor:
    """Horizontal centre of what was found, `(T,)` in widths of the picture; the middle where nothing was."""
    x = (torch.arange(GRID, device=cover.device) + 0.5) / GRID
    mass = cover.sum(1)
    return ((mass * (x - 0.5)).sum(1)) / (mass.sum(1) + 0.1)


def shrink(frames: Tensor) -> Tensor:
    """Frames `(T, 3, H, W)` at 64 x 64; areas are averaged."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return frames if frames.shape[-2:] == size else functional.adaptive_avg_pool2d(frames, size)


class TinyTextAlignmentReward(BatchReward):
    """Agreement of a clip of the tiny world with the scene of its caption, in [0, 1], higher is better.

    The weighted mean of facts, each in [0, 1] and each in the details: every object's colour (is an object of this
    colour there, as large as it should be, and does it stay), its shape, the order of two objects from left to right,
    the room's colour and the walls' texture. Where the commanded path leads an object out of the picture it is not
    missed. The camera itself, and objects that nobody asked for, are not judged.
    """

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Score many clips; those of equal length are read at once.

        A clip's entry is `ScoreNotApplicable` where its prompt is no caption of the tiny world, and `ScoreUnavailable`
        where it is too small, or shows nothing.
        """
        results: dict[int, Score | Exception] = {}
        captions: dict[int, Caption] = {}
        groups: dict[int, list[int]] = defaultdict(list)
        for index, clip in enumerate(clips):
            try:
                captions[index] = readable_caption(clip)
            except ScoreUnavailable as error:
                results[index] = error
                continue
            groups[clip.video.num_frames].append(index)
        for indices in groups.values():
            frames = torch.stack([shrink(clips[index].video.frames) for index in indices])
            graded = grade_clips(shipped_reader(self.device), frames, [captions[index] for index in indices])
            results |= {
                index: Score(alignment(grade.facts), details=grade.facts, spatial_map=grade.spatial_map)
                for index, grade in zip(indices, graded, strict=True)
            }
        return [results[index] for index in range(len(clips))]

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`."""
        captions: dict[int, Caption] = {}
        for index, clip in enumerate(clips):
            with contextlib.suppress(ScoreUnavailable):
                captions[index] = readable_caption(clip)
        if not captions:
            return frames.new_full((len(clips),), math.nan)
        own = frames[list(captions)]
        small = shrink(own.flatten(0, 1)).unflatten(0, own.shape[:2])
        values = align_clips(shipped_reader(self.device), small, list(captions.values()))
        return scatter_scores(values.to(frames), list(captions), len(clips))


@dataclass(frozen=True, slots=True)
class Grade:
    """What a clip bears out of its caption.

    Attributes:
        facts: See `grade_facts`.
        spatial_map: See `place_objects`.
    """

    facts: dict[str, float]
    spatial_map: Tensor


def grade_clips(reader: SceneReader, frames: Tensor, captions: Sequence[Caption]) -> list[Grade]:
    """Grade many clips.

    Args:
        reader: The network.
        frames: `(B, T, 3, 64, 64)` in [0, 1].
        captions: B captions.
    """
    own, fill = _read_each(reader.read(frames.to(reader.fill.device))), reader.fill.cpu()
    return [
        Grade(
            {name: float(value) for name, value in grade_facts(one, caption, fill).items()},
            place_objects(one, caption, fill),
        )
        for one, caption in zip(own, captions, strict=True)
    ]


def align_clips(reader: SceneReader, frames: Tensor, captions: Sequence[Caption]) -> Tensor:
    """Alignment of many clips, with a gradient in the frames.

    Args:
        reader: The network.
        frames: `(B, T, 3, 64, 64)` in [0, 1].
        captions: B captions.

    Returns:
        `(B,)` on the CPU: what `alignment` makes of the facts.
    """
    own, fill = _read_each(reader(frames.to(reader.fill.device))), reader.fill.cpu()
    values = []
    for one, caption in zip(own, captions, strict=True):
        facts = grade_facts(one, caption, fill)
        weights = torch.tensor(_weights(facts))
        values.append((torch.stack(list(facts.values())) * weights).sum() / weights.sum())
    return torch.stack(values)


def _read_each(reading: Reading) -> list[Reading]:
    """The readings of single clips, on the CPU."""
    parts = [part.cpu() for part in (reading.cover, reading.shape, reading.room, reading.texture)]
    return [Reading(*one) for one in zip(*parts, strict=True)]


def readable_caption(clip: Clip) -> Caption:
    """The caption of a clip that can be read.

    Raises:
        ScoreNotApplicable: The prompt is no caption of the tiny world.
        ScoreUnavailable: The clip is too small, or shows nothing.
    """
    caption = caption_of(clip)
    if min(clip.video.size) < SMALLEST_SIDE:
        raise ScoreUnavailable(f"needs {SMALLEST_SIDE} pixels on each side, received {clip.video.size}")
    if float(clip.video.frames.std(correction=0)) < LEAST_CONTRAST:
        raise ScoreUnavailable("the clip shows nothing: all pixels are alike")
    return caption


def caption_of(clip: Clip) -> Caption:
    """The prompt of a clip, as a caption.

    Raises:
        ScoreNotApplicable: It is none.
    """
    try:
        return parse_caption(clip.prompt)
    except CaptionError as error:
        raise ScoreNotApplicable(str(error)) from error
