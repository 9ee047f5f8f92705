"""One reconstructor on all clips: what each clip gives, how its broken versions rank, and what a long one costs."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from footage.figure import panel
from footage.measures import (
    Metered,
    camera_figures,
    focal_figures,
    judge_words,
    lengthened,
    render_figures,
    shrunk,
    through_h264,
)
from footage.summary import check_bars, compare_generated, separate, summarise
from worldr1_core.clip import Clip
from worldr1_core.compose import build, compose_scoring
from worldr1_core.errors import ScoreUnavailable, UserError, WorldR1Error
from worldr1_core.log import configure_logging
from worldr1_core.manifest import ComponentSpec, parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.reward import RewardInputs
from worldr1_core.scoring import ClipScores, ScoringEngine
from worldr1_core.video import Video
from worldr1_rewards.probes.footage import FootageSample, read_footage
from worldr1_rewards.probes.footage_files import FootageFiles
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.reconstruction import ReconstructionReward
from worldr1_rewards.scoring import manifest_text

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
"""Torchvision's name for its AlexNet; asking torchvision takes seconds."""
LONG = 81, (480, 832)
"""Frames and (H, W) of `--long`."""
LONG_MAKER = "auto"
"""Reconstructor that draws the frames between for `--long`."""
WARM_UP = (96, 128), 5
"""(H, W) and frames of the clip that is reconstructed before any is measured."""


@dataclass(frozen=True)
class Job:
    """What one reconstructor is asked.

    Attributes:
        name: Registered reconstructor.
        folder: Of the clips.
        real, generated: Clips with and without a camera path.
        max_side: Longer side that clips are shrunk to, or `None`.
        corruptions, long, figure: As the options of the command line.
    """

    name: str
    folder: Path
    real: tuple[FootageFiles, ...]
    generated: tuple[FootageFiles, ...]
    max_side: int | None = None
    corruptions: bool = False
    long: bool = False
    figure: bool = False

    def load(self, files: FootageFiles) -> Clip:
        """A clip at the size that is measured."""
        clip = replace(files.load(), name=files.label)
        return clip if self.max_side is None else shrunk(clip, self.max_side)


class Bench:
    """The default manifest's rewards on one reconstructor."""

    def __init__(self, name: str) -> None:
        registry = installed().registry
        spec = ComponentSpec(name=name)
        self.name = name
        self.meter = Metered(build(spec, "reconstructor", Reconstructor, registry, "cpu"))
        components = compose_scoring(parse_manifest(manifest_text(), registry), registry)
        self.scorer = ScoringEngine(replace(components, reconstructor=self.meter))

    def warm_up(self) -> None:
        """Import and load whatever the first call does."""
        size, num_frames = WARM_UP
        world = render_world("rich", "move right", seed=0, size=size, num_frames=num_frames, samples=1)
        self.score(Clip(Video(world.frames), intrinsics=world.intrinsics, name="warm-up"))

    def score(self, clip: Clip) -> ClipScores:
        """Scores and reconstruction; `self.meter.cost` holds what it took."""
        (result,) = self.scorer.score([clip])
        return result

    def report(self, what: str, result: ClipScores) -> None:
        """A line of progress."""
        cost = self.meter.cost
        spent = "no reconstruction" if cost is None else f"{cost.reconstruct + cost.rerender:.1f} s"
        scores = ", ".join(f"{name} {score.value:.3f}" for name, score in result.scores.items() if score.applicable)
        print(f"{self.name}: {what}: {scores}, {spent}", file=sys.stderr, flush=True)


def measure(job: Job) -> dict[str, Any]:
    """Everything about one reconstructor; `cannot_run` where it is not installed or has no weights."""
    configure_logging("error")
    torch.set_num_threads(1)
    try:
        bench = Bench(job.name)
        bench.warm_up()
    except WorldR1Error as error:
        return {"cannot_run": " ".join(str(error).split())}
    report: dict[str, Any] = {"clips": {}}
    for files in job.real:
        row, result = measure_clip(bench, job.load(files))
        report["clips"][files.label] = row
        if job.figure and "panel" not in report:
            report["panel"] = panel(job.name, result)
    if job.generated:
        real = {label: row["unknown"]["reconstruction"] for label, row in report["clips"].items()}
        generated = {files.label: _score_alone(bench, job.load(files)) for files in job.generated}
        report["real_and_generated"] = compare_generated(real, generated)
    if job.corruptions:
        report["corruptions"] = measure_corruptions(bench, job)
    if job.long and job.real:
        report["long"] = measure_long(bench, job.load(job.real[0]))
    report["summary"] = summarise(report["clips"], report.get("corruptions", {}).get("total"))
    return {**report, "bars": check_bars(report["summary"])}


def measure_clip(bench: Bench, clip: Clip) -> tuple[dict[str, Any], ClipScores]:
    """A clip with a path: with its intrinsics if they are known, without them, and judged by words."""
    assert clip.target is not None
    unknown = bench.score(replace(clip, target=None, intrinsics=None))
    bench.report(f"{clip.name}, unknown intrinsics", unknown)
    row: dict[str, Any] = {"known": None, "unknown": _figures(clip, unknown, bench), "words": None}
    result = unknown
    if clip.intrinsics is not None:
        if unknown.reconstruction is not None:
            row["unknown"] |= focal_figures(unknown.reconstruction, clip.intrinsics)
        result = bench.score(clip)
        bench.report(clip.name, result)
        row["known"] = _figures(clip, result, bench)
    if result.reconstruction is not None:
        row["words"] = judge_words(clip, result.reconstruction)
    return row, result


def _figures(clip: Clip, result: ClipScores, bench: Bench) -> dict[str, Any]:
    """Scores, and where there is a reconstruction its errors against the truth and its cost."""
    assert clip.target is not None
    row: dict[str, Any] = {name: score.value for name, score in result.scores.items() if score.applicable}
    row["reasons"] = {name: result.reasons[name] for name in row if name in result.reasons}
    found, cost = result.reconstruction, bench.meter.cost
    if found is None or cost is None:
        return row
    row |= camera_figures(found.trajectory.c2w, clip.target)
    row |= render_figures(clip.video.frames, found)
    row |= {"seconds": cost.reconstruct + cost.rerender, "cpu_seconds": cost.cpu, "cost": asdict(cost)}
    row["gib"] = None if cost.mebibytes is None else cost.mebibytes / 1024
    row["volume"] = clip.video.num_frames * math.prod(clip.video.size)
    return row | {"cameras_from": found.diagnostics.get("cameras_from"), "motion": found.diagnostics.get("motion")}


def _score_alone(bench: Bench, clip: Clip) -> float:
    """`reconstruction` of a clip without path and intrinsics; NaN where there is none."""
    result = bench.score(replace(clip, target=None, intrinsics=None))
    bench.report(f"{clip.name}, no path", result)
    return result.scores["reconstruction"].value


def measure_corruptions(bench: Bench, job: Job) -> dict[str, Any]:
    """Ranks of the clean clips among their broken versions."""
    try:
        footage = read_footage(job.folder)
    except UserError as error:
        return {"skipped": " ".join(str(error).split())}
    wanted = {files.label for files in job.real}
    footage = replace(footage, severities=(1.0,), cases=tuple(c for c in footage.cases if c.label in wanted))
    if len(footage.cases) < 2:
        return {"skipped": "two clips with a camera path are needed: breaks show frames of other clips"}
    lpips = ReconstructionReward(metric="lpips") if has_lpips_weights() else None
    rows = [_broken_row(bench, sample, lpips) for sample in footage.samples()]
    scores = ("total", "reconstruction", "trajectory", *(() if lpips is None else ("reconstruction_lpips",)))
    return {"rows": rows, **{name: separate(rows, name) for name in scores}}


def _broken_row(bench: Bench, sample: FootageSample, lpips: ReconstructionReward | None) -> dict[str, Any]:
    """Scores of one clip after H.264."""
    clip = through_h264(sample.clip(f"{sample.case.label}, {sample.kind}"))
    result = bench.score(clip)
    bench.report(clip.name, result)
    row = {"clip": sample.case.label, "kind": sample.kind, "total": result.total}
    row |= {name: score.value for name, score in result.scores.items()}
    if lpips is not None:
        row["reconstruction_lpips"] = math.nan
        if result.reconstruction is not None:
            try:
                row["reconstruction_lpips"] = lpips.score(clip, RewardInputs(result.reconstruction, None, None)).value
            except ScoreUnavailable as error:
                print(f"{bench.name}: {clip.name}: no LPIPS: {error}", file=sys.stderr)
    return row | {"reasons": dict(result.reasons)}


def has_lpips_weights() -> bool:
    """Whether torch's cache holds AlexNet, which LPIPS compares with."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS).is_file()


def measure_long(bench: Bench, clip: Clip) -> dict[str, Any]:
    """Cost and camera errors of a long and large version of a clip, which is the same for every reconstructor."""
    maker = bench if bench.name == LONG_MAKER else Bench(LONG_MAKER)
    made = maker.score(clip)
    if made.reconstruction is None:
        return {"clip": clip.name, "reasons": dict(made.reasons)}
    long = lengthened(clip, made.reconstruction, *LONG)
    del made
    result = bench.score(long)
    bench.report(f"{clip.name}, {LONG[0]} frames of {LONG[1][0]}x{LONG[1][1]}", result)
    return {"clip": clip.name, "frames_gib": long.video.frames.nbytes / 2**30, **_figures(long, result, bench)}
