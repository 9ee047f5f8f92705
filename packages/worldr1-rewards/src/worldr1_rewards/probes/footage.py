"""Real clips as the source of a probe: clean as filmed, broken in image space, commanded along their own cameras."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.scoring import ClipScores, ScoringEngine
from worldr1_core.video import Video
from worldr1_rewards.probes.footage_corruptions import (
    FOOTAGE_CORRUPTIONS,
    FOOTAGE_HACKS,
    PATH_BREAKS,
    corrupt,
    cropped_to,
)
from worldr1_rewards.probes.footage_files import FootageFiles, find_footage
from worldr1_rewards.probes.meanings import FOOTAGE
from worldr1_rewards.probes.run import Outcome, Watch, score_samples
from worldr1_rewards.probes.source import CLEAN
from worldr1_rewards.probes.world import STILL_HACKS

QUICK_CORRUPTIONS = ("morph", "swim", "vanish", "jitter", "reversed", "wrong_speed")
QUICK_HACKS = ("frozen", "zoom2d", "slide2d", "blur", "unrelated")
MIN_CASES = 2
"""Fewest usable clips, because an AUC compares clips with one another."""
_NUM_OTHERS = 8
"""Most clips that unrelated frames are taken from."""
_RESTING_DEGREES, _RESTING_SHIFT = 0.1, 1e-4
"""A camera that turns and shifts (in units of the scene depth, or of the path file) no more than this rests."""


@dataclass(frozen=True, slots=True)
class FootageCase:
    """One real clip.

    Attributes:
        files: Where it is read from.
        index: Its place among the clips; chooses the randomness of its breaks.
        has_path: It has a camera path.
        rests: It has one, and the camera rests.
    """

    files: FootageFiles
    index: int
    has_path: bool
    rests: bool = False

    @property
    def label(self) -> str:
        """The video's name."""
        return self.files.label

    @property
    def scene(self) -> int:
        """Every clip counts as a scene of its own."""
        return self.index


@dataclass(frozen=True, slots=True)
class FootageSample:
    """One clip of a probe: a real clip, as filmed or broken.

    Attributes:
        case: The real clip.
        kind: `"clean"`, or one of `FOOTAGE_CORRUPTIONS` and `FOOTAGE_HACKS`.
        severity: In (0, 1]; 0 for clean clips.
        seed: Of the break.
        others: Further clips, of which some breaks show frames.
    """

    case: FootageCase
    kind: str
    severity: float
    seed: int = 0
    others: tuple[FootageFiles, ...] = ()

    @property
    def varied(self) -> None:
        """Real clips are not varied."""
        return None

    def clip(self, name: str) -> Clip:
        """Frames, prompt, the camera's own path as the commanded one, and known intrinsics."""
        clip = self.case.files.load()
        frames = clip.video.frames
        if self.kind != CLEAN:
            size = clip.video.size
            other = None
            if self.kind == "scene_cut":
                other = self.others[0].load().video.frames
            elif self.kind == "unrelated":
                other = _spread(self.others[:_NUM_OTHERS], len(frames), size)
            frames = corrupt(frames, self.kind, self.severity, self.seed, other)
        return replace(clip, video=Video(frames, clip.video.fps), name=name)

    def setting(self, variation: str) -> str:
        """Real clips are not varied."""
        raise ValueError(f"Real clips have no variation {variation!r}.")


@dataclass(frozen=True)
class Footage:
    """Real clips, each as filmed and with every corruption and hack.

    Attributes:
        cases: The clips.
        severities: As for `Source`.
        corruptions, hacks: As for `Source`.
        seed: Of the breaks.
        left_out: Video -> why it is in no figure.
    """

    cases: tuple[FootageCase, ...]
    severities: tuple[float, ...] = (1 / 3, 2 / 3, 1.0)
    corruptions: tuple[str, ...] = FOOTAGE_CORRUPTIONS
    hacks: tuple[str, ...] = FOOTAGE_HACKS
    seed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def variations(self) -> tuple[str, ...]:
        """None: the clips are taken as they are."""
        return ()

    @property
    def varied_cases(self) -> tuple[FootageCase, ...]:
        """None."""
        return ()

    @property
    def meanings(self) -> Mapping[str, str]:
        """Kind -> what it does, in words."""
        return FOOTAGE

    def describe(self) -> dict[str, Any]:
        """Clips and severities."""
        return {
            "cases": [case.label for case in self.cases],
            "severities": [round(severity, 4) for severity in self.severities],
        }

    def samples(self) -> Iterator[FootageSample]:
        """The clean clips, then every break of each clip."""
        yield from self.clean_samples()
        yield from self.broken_samples()

    def clean_samples(self) -> Iterator[FootageSample]:
        """The clips as filmed."""
        yield from (FootageSample(case, CLEAN, 0.0) for case in self.cases)

    def broken_samples(self) -> Iterator[FootageSample]:
        """Every break of each clip."""
        for place, case in enumerate(self.cases):
            others = tuple(other.files for other in (*self.cases[place + 1 :], *self.cases[:place]))
            seed = 1000 * self.seed + case.index
            for kind in self.corruptions:
                if applies(case, kind):
                    yield from (FootageSample(case, kind, severity, seed, others) for severity in self.severities)
            yield from (FootageSample(case, kind, 1.0, seed, others) for kind in self.hacks if applies(case, kind))


def applies(case: FootageCase, kind: str) -> bool:
    """Return True if a corruption or hack is meaningful for a clip."""
    if kind in PATH_BREAKS:
        return case.has_path and not case.rests
    return not (case.rests and kind in STILL_HACKS)


def read_footage(folder: str | os.PathLike[str], *, quick: bool = False, seed: int = 0) -> Footage:
    """Plan a probe of a folder of real clips; every clip is read once, so that a bad one shows before any is scored.

    Args:
        folder: See `find_footage`.
        quick: Fewer kinds, at full severity alone.
        seed: Of the breaks.

    Raises:
        VideoError: There is no such folder, or no clip in it.
        UserError: Fewer than two of the clips can be used.
    """
    files, problems = find_footage(folder)
    cases, left_out = [], dict(problems)
    for index, entry in enumerate(files):
        try:
            target = entry.load().target
        except UserError as error:
            left_out[entry.label] = str(error)
        else:
            cases.append(FootageCase(entry, index, target is not None, target is not None and _rests(target)))
    footage = Footage(tuple(cases), seed=seed, left_out=left_out)
    if quick:
        footage = replace(footage, severities=(1.0,), corruptions=QUICK_CORRUPTIONS, hacks=QUICK_HACKS)
    check_enough(footage)
    return footage


def check_enough(footage: Footage) -> None:
    """Refuse to go on with fewer than two clips.

    Raises:
        UserError: There are fewer; the message tells why each of the others is left out.
    """
    if len(footage.cases) >= MIN_CASES:
        return
    usable = [case.label for case in footage.cases]
    reasons = "".join(f"\n  {label}: {reason}" for label, reason in footage.left_out.items())
    raise UserError(
        f"Usable clips: {usable}. An AUC compares clips with one another, so --clips needs at least {MIN_CASES}: "
        f"NAME.mp4 with its camera path in NAME.json beside it.{reasons}"
    )


def score_clean(scorer: ScoringEngine, footage: Footage, watch: Watch | None = None) -> tuple[list[Outcome], Footage]:
    """Score the clips as filmed, and leave out those to which a counted reward does not apply.

    A total that leaves a reward out cannot be ranked against one that counts it.

    Args:
        scorer: What is probed.
        footage: The clips.
        watch: As for `run_probe`.

    Returns:
        Outcomes of the clips that are kept, and the footage without the others.
    """
    outcomes: list[Outcome] = []
    left_out = dict(footage.left_out)
    for case in footage.cases:
        ((outcome, result),) = score_samples(scorer, [FootageSample(case, CLEAN, 0.0)])
        reason = _inapplicable(scorer, result)
        if reason is not None:
            left_out[case.label] = reason if case.has_path else f"has no camera path file beside it; {reason}"
            continue
        outcomes.append(outcome)
        if watch is not None:
            watch(outcome, result)
    kept = {outcome.sample.case for outcome in outcomes}
    cases = tuple(case for case in footage.cases if case in kept)
    return outcomes, replace(footage, cases=cases, left_out=left_out)


def _inapplicable(scorer: ScoringEngine, result: ClipScores) -> str | None:
    """Return why weighted rewards do not apply to a clip, or `None` if all do."""
    rewards = scorer.components.rewards
    names = [w.name for w in rewards if w.weight > 0 or len(rewards) == 1]
    found = [f"{name} does not apply: {result.reasons[name]}" for name in names if not result.scores[name].applicable]
    return "; ".join(found) or None


def _rests(path: CameraTrajectory) -> bool:
    turns = path.rotations[0].T @ path.rotations
    cosines = (turns.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    degrees = math.degrees(float(torch.acos(cosines.clamp(-1, 1)).max()))
    shift = float((path.positions - path.positions[0]).norm(dim=-1).max())
    return degrees <= _RESTING_DEGREES and shift <= _RESTING_SHIFT * (path.scene_depth or 1.0)


def _spread(files: Sequence[FootageFiles], count: int, size: tuple[int, int]) -> Tensor:
    """About `count` frames `(N, 3, H, W)`, spread evenly over clips and over the frames of each."""
    share = math.ceil(count / len(files))
    parts = []
    for entry in files:
        frames = entry.load().video.frames
        index = torch.linspace(0, len(frames) - 1, min(share, len(frames))).round().long()
        parts.append(cropped_to(frames[index], size))
    return torch.cat(parts)
