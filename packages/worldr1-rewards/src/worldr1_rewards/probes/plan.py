"""Rendered clips of a probe: scenes, corruptions at several severities, hacks, and variations of the clean clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards.probes.meanings import RENDERED
from worldr1_rewards.probes.source import CLEAN
from worldr1_rewards.probes.world import (
    CORRUPTIONS,
    FAMILIES,
    MORPHING_OBJECT,
    MOTIONS,
    STILL_HACKS,
    WorldClip,
    render_world,
)

FLAT = "flat2d"
"""The 2D zoom or slide over one picture that imitates the commanded move: `zoom2d` or `slide2d` of the world."""
HACKS = ("frozen", "frozen_noise", "repeated", FLAT, "blur", "pure_noise", "unrelated", "scene_cut", "grey_fade")
"""Hacks, at full strength, that should earn nothing."""
QUICK_HACKS = ("frozen", "repeated", FLAT, "blur", "pure_noise", "unrelated", "grey_fade")
PATH_CORRUPTIONS = ("wrong_direction", "wrong_speed")

MOTION_WORDS = {CLEAN: "nothing moves", "moving_object": "one object moves", "moving_objects": "two objects move"}
"""Honest motion in words."""


@dataclass(frozen=True, slots=True)
class Case:
    """A scene and the moves that its prompt commands."""

    family: str
    moves: tuple[str, ...]
    seed: int

    @property
    def label(self) -> str:
        """For people, e.g. `rich, push in, seed 0`."""
        return f"{self.family}, {' then '.join(self.moves)}, seed {self.seed}"

    @property
    def scene(self) -> tuple[str, int]:
        """Equal for the moves through one scene."""
        return self.family, self.seed


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip of a probe.

    Attributes:
        case: Scene and moves.
        kind: `"clean"`, a corruption, a hack, or honest motion.
        severity: In (0, 1]; 0 for clean clips.
        size: (H, W).
        num_frames: T.
        varied: `"resolution"`, `"length"`, `"seed"` or `"motion"` for a clip without defect that only serves that
            comparison, else `None`.
    """

    case: Case
    kind: str
    severity: float
    size: tuple[int, int]
    num_frames: int
    varied: str | None = None

    def render(self) -> WorldClip:
        """Frames and truth; equal samples give equal clips."""
        kind = self.kind
        if kind == FLAT:
            kind = "zoom2d" if self.case.moves[0] in ("push in", "pull out") else "slide2d"
        return render_world(
            self.case.family,
            self.case.moves,
            seed=self.case.seed,
            size=self.size,
            num_frames=self.num_frames,
            corruption=kind,
            severity=self.severity or 1.0,
        )

    def clip(self, name: str) -> Clip:
        """Render the clip that a reward is given; see `to_clip`."""
        return to_clip(self.render(), name)

    def setting(self, variation: str) -> str:
        """This clip's resolution, length, seed or motion in words."""
        words = {
            "motion": MOTION_WORDS.get(self.kind, ""),
            "resolution": f"{self.size[1]}x{self.size[0]}",
            "length": f"{self.num_frames} frames",
            "seed": f"seed {self.case.seed}",
        }
        return words[variation]


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """The clips of a probe.

    Attributes:
        cases: Scenes with their moves.
        severities: At which every corruption is shown, ascending, in (0, 1]; the last is the full one.
        size: (H, W) of the clips.
        num_frames: T of the clips.
        sizes, lengths, seeds: Variations of the clean clips of `varied_cases`.
        motions: Kinds of honest motion that `varied_cases` are shown with; a fair reward gives them as much.
        num_varied: Number of varied cases, from the first on.
        hacks: Which hacks every case is shown with.
        corruptions: Which corruptions, at every severity.
    """

    cases: tuple[Case, ...]
    severities: tuple[float, ...]
    size: tuple[int, int] = (96, 96)
    num_frames: int = 9
    sizes: tuple[tuple[int, int], ...] = ()
    lengths: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    motions: tuple[str, ...] = ()
    num_varied: int = 1
    hacks: tuple[str, ...] = HACKS
    corruptions: tuple[str, ...] = CORRUPTIONS

    def samples(self) -> Iterator[Sample]:
        """Every clip: case by case the clean one, the corruptions and the hacks; then the variations."""
        for case in self.cases:
            yield self._sample(case, CLEAN, 0.0)
            for kind in self.corruptions:
                if applies(case, kind):
                    yield from (self._sample(case, kind, severity) for severity in self.severities)
            yield from (self._sample(case, kind, 1.0) for kind in self.hacks if applies(case, kind))
        for case in self.varied_cases:
            clean = self._sample(case, CLEAN, 0.0)
            yield from (replace(clean, size=size, varied="resolution") for size in self.sizes)
            yield from (replace(clean, num_frames=length, varied="length") for length in self.lengths)
            yield from (replace(clean, case=replace(case, seed=seed), varied="seed") for seed in self.seeds)

            yield from (replace(clean, kind=kind, severity=1.0, varied="motion") for kind in self.motions)

    @property
    def variations(self) -> tuple[str, ...]:
        """Properties in which clean clips are varied."""
        return ("resolution", "length", "seed", *(("motion",) if self.motions else ()))

    @property
    def varied_cases(self) -> tuple[Case, ...]:
        """The first `num_varied` cases."""
        return self.cases[: self.num_varied]

    @property
    def meanings(self) -> Mapping[str, str]:
        """Kind -> what it does, in words."""
        return RENDERED

    def describe(self) -> dict[str, Any]:
        """Cases, severities and form of the clips."""
        return {
            "cases": [case.label for case in self.cases],
            "severities": [round(severity, 4) for severity in self.severities],
            "size": list(self.size),
            "num_frames": self.num_frames,
        }

    def _sample(self, case: Case, kind: str, severity: float) -> Sample:
        return Sample(case, kind, severity, self.size, self.num_frames)


def applies(case: Case, kind: str) -> bool:
    """Return True if a break is meaningful for a prompt: a camera at rest has no direction, and may be frozen."""
    return case.moves != ("fixed",) or kind not in (*PATH_CORRUPTIONS, *STILL_HACKS, FLAT)


def quick_plan(
    size: tuple[int, int] = (96, 96), num_frames: int = 9, seed: int = 0, *, moving: bool = False
) -> ProbePlan:
    """Three scenes at two severities; see `full_plan`."""
    height, width = size
    cases = (
        Case("rich", ("push in",), seed),
        Case("soft", ("orbit left",), seed + 1),
        Case("tiles", ("move right",), seed + 2),
    )
    larger = (round(1.5 * height), round(1.5 * width))
    return ProbePlan(
        cases,
        (0.5, 1.0),
        size,
        num_frames,
        sizes=(larger,),
        lengths=(num_frames + 4,),
        seeds=(seed + 100,),
        hacks=QUICK_HACKS,
        num_varied=len(cases) if moving else 1,
        **_moving(moving),
    )


def full_plan(
    size: tuple[int, int] = (96, 96), num_frames: int = 9, seed: int = 0, *, moving: bool = False
) -> ProbePlan:
    """Seven texture families, three moves each, three severities.

    Args:
        size: (H, W) of the clips.
        num_frames: T of the clips.
        seed: Of the scenes: another one draws other scenes.
        moving: Add scenes in which objects move honestly, and the corruption of one object that morphs.
    """
    moves = (("push in",), ("orbit right",), ("pan left",))
    cases = tuple(Case(family, move, seed) for family in FAMILIES for move in moves)
    height, width = size
    return ProbePlan(
        cases,
        (1 / 3, 2 / 3, 1.0),
        size,
        num_frames,
        sizes=tuple((round(height * factor), round(width * factor)) for factor in (0.75, 1.5, 2.0)),
        lengths=(num_frames + 4, 2 * num_frames - 1, 3 * num_frames - 2),
        seeds=tuple(range(seed + 100, seed + 106)),
        num_varied=4,
        **_moving(moving),
    )


def _moving(moving: bool) -> dict[str, Any]:
    """Arguments of a plan with scenes in which objects move."""
    return {"motions": MOTIONS, "corruptions": (*CORRUPTIONS, MORPHING_OBJECT)} if moving else {}


def to_clip(world: WorldClip, name: str) -> Clip:
    """A rendered world as what a reward is given: frames, prompt, the commanded path exactly, and the intrinsics."""
    size = (int(world.frames.shape[2]), int(world.frames.shape[3]))
    target = CameraTrajectory(world.commanded, world.intrinsics, size, world.scene_depth)
    return Clip(Video(world.frames), world.prompt, target, world.intrinsics, name)
