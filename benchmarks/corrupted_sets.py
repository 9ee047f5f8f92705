"""Sets of clips with known defects, rendered or filmed, and which columns of an evaluation should see what.

`evaluation.py` measures them, and so does its test. Every defect comes mildly and strongly. A column is expected to see
a defect if it measures what the defect breaks:

- `morph`: the scene changes. Columns of the scene should see it; those of the camera only as far as it disturbs the
  estimated path.
- `astray`: the camera goes another way: rendered, off by 3.6°, within the 5° of the strictest column, or by 180°;
  filmed, it turns back shortly before the end, or goes backwards all the way.
- `slow`: the camera makes a part of the move. Columns that compare paths up to scale cannot see that of its travel,
  only of its turn.
- `jitter`: every pose is shaken.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from footage.measures import shrunk

from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards import EvalResult
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.statistics import Estimate, estimate_mean
from worldr1_rewards.evaluation.summary import ALL
from worldr1_rewards.probes.footage import FootageSample, read_footage
from worldr1_rewards.probes.plan import to_clip
from worldr1_rewards.probes.world import render_world

CLEAN = "clean"
STRONG = 1.0
NUM_REPEATED = 3
"""Frames of a clip that shows the same few again and again."""
DEGENERATE = ("noise", "still", "repeated")
"""Clips of pure noise, of one frame, and of the first few frames in turn: the tests of SysCON3D (arXiv 2605.18754)."""

SCENE_COLUMNS = ("psnr", "psnr_normalised", "ssim", "lpips", "reconstruction", "consistency")
TURN_COLUMNS = ("rot_err", "rpe_rot", "rot_auc_5", "rot_auc_15", "rot_auc_30")
"""Columns of the camera's rotation. They see a wrong move if rotation is commanded."""
TRAVEL_COLUMNS = ("trans_err", "ate", "rpe_trans", "trans_auc_5", "trans_auc_15", "trans_auc_30")
"""Columns of the camera's travel, up to scale."""
BOTH_COLUMNS = ("cam_mc", "trajectory")


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect at two severities.

    Attributes:
        name: In the names of sets.
        rendered: Corruption of `worldr1_rewards.probes.world`.
        filmed: Corruption of `worldr1_rewards.probes.footage_corruptions`.
        mild: Severity of the mild rendered set; the strong one has 1.
        mild_filmed: The same for filmed clips.
        seen_by: Columns that measure what it breaks.
    """

    name: str
    rendered: str
    filmed: str
    mild: float
    mild_filmed: float
    seen_by: tuple[str, ...]

    @property
    def sets(self) -> tuple[str, str, str]:
        """Names of the sets from the best to the worst."""
        return CLEAN, f"mild {self.name}", f"strong {self.name}"


MORPH = Defect("morph", "morph", "morph", 0.3, 0.3, SCENE_COLUMNS)
ASTRAY = Defect(
    *("astray", "wrong_direction", "reversed", 0.02, 0.1),
    seen_by=(*TURN_COLUMNS, *TRAVEL_COLUMNS, *BOTH_COLUMNS),
)
SLOW = Defect("slow", "wrong_speed", "wrong_speed", 0.3, 0.3, seen_by=(*TURN_COLUMNS, *BOTH_COLUMNS))
JITTER = Defect("jitter", "jitter", "jitter", 0.3, 0.3, seen_by=(*TURN_COLUMNS, *TRAVEL_COLUMNS, *BOTH_COLUMNS))
DEFECTS = (MORPH, ASTRAY, SLOW, JITTER)


class Rendered:
    """Clips of rendered scenes, one per move.

    Args:
        moves: Camera moves, each through a scene of its own.
        size: Side in pixels.
        num_frames: T.
    """

    def __init__(self, moves: Sequence[str], size: int, num_frames: int) -> None:
        self.moves, self.size, self.num_frames = moves, size, num_frames

    def make(self, kind: str, severity: float = STRONG) -> list[Clip]:
        """One clip per move with a corruption of rendered worlds."""
        return [
            to_clip(
                render_world(
                    "rich",
                    move,
                    seed=seed,
                    size=(self.size, self.size),
                    num_frames=self.num_frames,
                    corruption=kind,
                    severity=severity,
                ),
                f"{move}, {kind}",
            )
            for seed, move in enumerate(self.moves)
        ]

    def broken(self, defect: Defect) -> dict[str, list[Clip]]:
        """The mild and the strong set of a defect."""
        _, mild, strong = defect.sets
        return {mild: self.make(defect.rendered, defect.mild), strong: self.make(defect.rendered)}


class Filmed:
    """The clips of a folder that have a camera path.

    Args:
        folder: See `worldr1_rewards.probes.footage_files.find_footage`.
        max_side: Longer side in pixels that clips are shrunk to, or `None`.
        most: Largest number of clips, or `None` for all.
    """

    def __init__(self, folder: Path, max_side: int | None = None, most: int | None = None) -> None:
        self.cases = [case for case in read_footage(folder).cases if case.has_path][:most]
        self.max_side = max_side

    def make(self, kind: str, severity: float = STRONG) -> list[Clip]:
        """One clip per case with a corruption of real footage."""
        clips = []
        for place, case in enumerate(self.cases):
            others = tuple(other.files for other in (*self.cases[place + 1 :], *self.cases[:place]))
            sample = FootageSample(case, kind, 0.0 if kind == CLEAN else severity, case.index, others)
            clip = sample.clip(f"{case.label}, {kind}")
            clips.append(clip if self.max_side is None else shrunk(clip, self.max_side))
        return clips

    def broken(self, defect: Defect) -> dict[str, list[Clip]]:
        """The mild and the strong set of a defect."""
        _, mild, strong = defect.sets
        return {mild: self.make(defect.filmed, defect.mild_filmed), strong: self.make(defect.filmed)}


Source = Rendered | Filmed


def ordered_sets(source: Source, defects: Sequence[Defect]) -> dict[str, list[Clip]]:
    """The clean set, and the mild and strong ones of some defects."""
    sets = {CLEAN: source.make(CLEAN)}
    for defect in defects:
        sets |= source.broken(defect)
    return sets


def degenerate_sets(source: Source) -> dict[str, list[Clip]]:
    """The sets of `DEGENERATE`."""
    repeated = [in_turn(clip) for clip in source.make(CLEAN)]
    return {"noise": source.make("pure_noise"), "still": source.make("frozen"), "repeated": repeated}


def in_turn(clip: Clip) -> Clip:
    """The first few frames again and again."""
    frames = clip.video.frames
    return replace(clip, video=Video(frames[torch.arange(len(frames)) % NUM_REPEATED], clip.video.fps))


@dataclass(frozen=True, slots=True)
class Order:
    """Clean, mildly and strongly broken sets in one column.

    Attributes:
        in_order: Each mean is better than the next.
        is_apart: Each interval ends before the next begins; `None` without intervals.
        is_clear: The intervals of the paired differences, clip by clip, exclude 0; `None` without intervals.
    """

    in_order: bool
    is_apart: bool | None
    is_clear: bool | None

    def __str__(self) -> str:
        if not self.in_order:
            return "not ordered"
        return "ordered" + (", apart" if self.is_apart else ", clear" if self.is_clear else "")


def find_order(result: EvalResult, column: Column, defect: Defect) -> Order | None:
    """Return the order of the sets of a defect in a column, or `None` if one of them is missing or has no value."""
    cells = result.summary.cells[ALL]
    if not cells.keys() >= set(defect.sets):
        return None
    found = [cells[name][column.name].estimate for name in defect.sets]
    if any(estimate.num_videos == 0 for estimate in found):
        return None
    sign = 1 if column.higher_is_better else -1
    pairs = list(itertools.pairwise(found))
    in_order = all(sign * (better.mean - worse.mean) > 0 for better, worse in pairs)
    if any(estimate.low != estimate.low for estimate in found):
        return Order(in_order, None, None)
    return Order(in_order, all(is_apart(*pair, column) for pair in pairs), _is_clear(result, column, defect))


def is_apart(better: Estimate, worse: Estimate, column: Column) -> bool:
    """Whether the interval of one estimate is better than that of another, without overlap."""
    return better.low > worse.high if column.higher_is_better else better.high < worse.low


def is_caught(result: EvalResult, column: Column, kind: str) -> bool | None:
    """Whether a column tells a degenerate set from the clean one: every clip failed, or the interval is worse.

    `None` if the column does not apply to the clean clips, or there are too few of them for an interval.
    """
    cells = result.summary.cells[ALL]
    clean, found = (cells[name][column.name] for name in (CLEAN, kind))
    if found.num_failed == found.num_videos:
        return True
    if clean.estimate.low != clean.estimate.low or found.estimate.low != found.estimate.low:
        return None
    return is_apart(clean.estimate, found.estimate, column)


def _is_clear(result: EvalResult, column: Column, defect: Defect) -> bool:
    differences = [paired_difference(result, column, *pair) for pair in itertools.pairwise(defect.sets)]
    return all(difference.low > 0 for difference in differences)


def paired_difference(result: EvalResult, column: Column, better: str, worse: str) -> Estimate:
    """How much better one set is than another, over the clips that have both values."""
    sign = 1 if column.higher_is_better else -1
    first, second = (values_of(result, name, column.name) for name in (better, worse))
    pairs = sorted(first.keys() & second.keys())
    return estimate_mean([sign * (first[pair] - second[pair]) for pair in pairs], [prompt for prompt, _ in pairs])


def values_of(result: EvalResult, name: str, column: str) -> dict[tuple[int, int], float]:
    """Prompt and number -> value, for the clips of a set that have one."""
    return {
        record.pair: record.values[column]
        for record in result.videos
        if record.method == name and column in record.values
    }
