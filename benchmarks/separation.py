"""Does the default composition rank honest clips above broken ones? Rendered worlds, scored end to end.

    python benchmarks/separation.py --quick          # under a minute
    python benchmarks/separation.py --size 128 --frames 17 --seeds 2
    python benchmarks/separation.py --encode         # every clip goes through an mp4 file first

For each corruption: AUC of the total (`reconstruction` + `trajectory`), clean clips against corrupted ones, pooled over
scenes, texture families and prompts. For each hack: how many clips earn as much as the worst clean clip of the same
prompt (must be 0) and as their own clean counterpart. A clip without a score ranks below every clip with one, and is
counted. Progress goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.probes.plan import CLEAN, Case, Sample, applies
from worldr1_rewards.probes.rank_statistics import auc
from worldr1_rewards.probes.world import CORRUPTIONS, FAMILIES, MOVES, WorldClip
from worldr1_rewards.scoring import Scorer

MOVING_HACKS = ("frozen", "frozen_noise", "repeated", "flat2d")
"""Hacks that must rank below every clean clip of the same prompt when a move is commanded."""
NO_SCORE = -1.0
QUICK_CASES = (("rich", "push in", 0), ("soft", "orbit left", 1))
QUICK_BREAKS = ("morph", "vanish", "flicker", "wrong_direction", "frozen", "flat2d", "wrong_speed")


@dataclass(frozen=True, slots=True)
class Result:
    """One scored clip; NaN scores are `NO_SCORE`."""

    family: str
    moves: str
    seed: int
    broken: str
    reconstruction: float
    trajectory: float
    total: float
    seconds: float


def score(scorer: Scorer, world: WorldClip, broken: str, folder: Path | None) -> Result:
    """Score one clip as a user would, after an mp4 round trip where a folder is given."""
    video = Video(world.frames)
    if folder is not None:
        path = folder / "clip.mp4"
        write_video(video, path)
        video = read_video(path)
    clip = Clip(video, world.prompt, trajectory_from_prompt(world.prompt, video.num_frames))
    start = time.process_time()
    (scores,) = scorer.score([clip])
    seconds = time.process_time() - start
    values = {
        name: NO_SCORE if value.reason is not None else float(value.value) for name, value in scores.scores.items()
    }
    total = NO_SCORE if scores.total != scores.total else float(scores.total)
    moves = ", ".join(world.moves)
    return Result(
        world.family, moves, world.seed, broken, values["reconstruction"], values["trajectory"], total, seconds
    )


def run(
    cases: Sequence[tuple[str, str, int]], breaks: Sequence[str], size: int, frames: int, *, encode: bool
) -> list[Result]:
    """Render and score every case clean and broken."""
    scorer = Scorer()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if encode else None
        for index, (family, moves, seed) in enumerate(cases):
            case = Case(family, (moves,), seed)
            for broken in (CLEAN, *(b for b in breaks if applies(case, b))):
                world = Sample(case, broken, 1.0, (size, size), frames).render()
                results.append(score(scorer, world, broken, folder))
            print(f"[{index + 1}/{len(cases)}] {family}, {moves}, seed {seed}", file=sys.stderr, flush=True)
    return results


def summarise(results: Sequence[Result]) -> dict[str, object]:
    """The table and its parts."""
    clean = [r for r in results if r.broken == "clean"]
    report: dict[str, object] = {"clips": len(results), "clean": _describe(clean), "corruptions": {}, "hacks": {}}
    for broken in dict.fromkeys(r.broken for r in results if r.broken != "clean"):
        group = [r for r in results if r.broken == broken]
        honest = [r for r in clean if any(r.moves == g.moves for g in group)]
        entry = {
            "auc": auc([r.total for r in honest], [r.total for r in group]),
            "auc_reconstruction": auc([r.reconstruction for r in honest], [r.reconstruction for r in group]),
            "auc_trajectory": auc([r.trajectory for r in honest], [r.trajectory for r in group]),
            "reach_worst_clean_of_prompt": sum(_reaches(g, [r for r in honest if r.moves == g.moves]) for g in group),
            "reach_own_clean": sum(_reaches(g, [r for r in honest if _key(r) == _key(g)]) for g in group),
            **_describe(group),
        }
        part = "corruptions" if broken in CORRUPTIONS else "hacks"
        report[part][broken] = entry  # type: ignore[index]
    return report


def _key(result: Result) -> tuple[str, str, int]:
    return result.family, result.moves, result.seed


def _reaches(result: Result, honest: Sequence[Result]) -> bool:
    return result.total >= min(r.total for r in honest)


def _describe(group: Sequence[Result]) -> dict[str, object]:
    totals = torch.tensor([r.total for r in group])
    return {
        "count": len(group),
        "without_score": sum(r.total == NO_SCORE for r in group),
        "total_quantiles": [round(v, 3) for v in totals.quantile(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])).tolist()],
        "seconds": round(sum(r.seconds for r in group) / len(group), 2),
    }


def _cases(args: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    for seed in range(args.seeds):
        yield from ((family, moves, seed) for family in args.families for moves in args.moves)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two scenes at 64x64x9")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=1, help="scenes a family and prompt")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--moves", nargs="+", default=list(MOVES), choices=MOVES)
    parser.add_argument("--encode", action="store_true", help="write and read every clip as mp4 first")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cases = QUICK_CASES if args.quick else list(_cases(args))
    breaks = QUICK_BREAKS if args.quick else (*CORRUPTIONS, *MOVING_HACKS)
    results = run(cases, breaks, args.size, args.frames, encode=args.encode)
    report = {"size": args.size, "frames": args.frames, "encoded": args.encode, **summarise(results)}
    for part in ("corruptions", "hacks"):
        for name, entry in report[part].items():  # type: ignore[attr-defined]
            reach = f"{entry['reach_worst_clean_of_prompt']}/{entry['count']}"
            print(f"{name:14} AUC {entry['auc']:.3f}  reach the worst clean of their prompt: {reach}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
