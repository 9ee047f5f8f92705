r"""Which columns of `worldr1 eval` order sets of videos with known defects, and with what uncertainty?

    python benchmarks/evaluation.py --quick                         # two clips per set, psnr alone, under a minute
    python benchmarks/evaluation.py                                 # rendered clips of six moves, about five minutes
    python benchmarks/evaluation.py --clips clips --max-side 228    # your own clips with known cameras

Sets: the clean clips; the scene changes (`morph`) mildly and strongly; the camera goes astray (`wrong_direction`, for
real clips `reversed`) mildly and strongly; and the degenerate ones `noise`, `still` and `repeated` (the first three
frames in turn). For every column, the means and 95 % intervals of all sets, whether clean, mild and strong sets are in
order, and whether their intervals overlap. The folder holds clips as for `benchmarks/real_footage.py`. Tables go to
stderr, progress too; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from footage.measures import shrunk

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.video import Video
from worldr1_rewards import EvalResult, evaluate
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.statistics import Estimate
from worldr1_rewards.probes.footage import FootageSample, read_footage
from worldr1_rewards.probes.plan import to_clip
from worldr1_rewards.probes.world import render_world

MILD, MILDLY_ASTRAY, STRONG = 0.3, 0.15, 1.0
MOVES = ("push in", "pull out", "move left", "move right", "orbit left", "pan right")
METRICS = ("default", "ssim")
DEFECTS = ("morph", "astray", "degenerate")
DEGENERATE = {"noise": "pure_noise", "still": "frozen"}
Make = Callable[[str, float], list[Clip]]
"""Makes one clip per scene with a defect of some severity; the defect `clean` is none."""


def rendered(moves: Sequence[str], size: int, num_frames: int) -> Make:
    """Clips of rendered scenes, one per move."""

    def make(kind: str, severity: float) -> list[Clip]:
        return [
            to_clip(
                render_world(
                    "rich",
                    move,
                    seed=seed,
                    size=(size, size),
                    num_frames=num_frames,
                    corruption=kind,
                    severity=severity,
                ),
                f"{move}, {kind}",
            )
            for seed, move in enumerate(moves)
        ]

    return make


def filmed(folder: Path, max_side: int | None, most: int | None) -> Make:
    """Clips of a folder that have a camera path, at most so many."""
    cases = [case for case in read_footage(folder).cases if case.has_path][:most]

    def make(kind: str, severity: float) -> list[Clip]:
        clips = [FootageSample(case, kind, severity, case.index).clip(f"{case.label}, {kind}") for case in cases]
        return clips if max_side is None else [shrunk(clip, max_side) for clip in clips]

    return make


def in_turn(clip: Clip) -> Clip:
    """The first three frames again and again."""
    frames = clip.video.frames
    return replace(clip, video=Video(frames[torch.arange(len(frames)) % 3], clip.video.fps))


def make_sets(make: Make, astray: str, defects: Sequence[str]) -> dict[str, list[Clip]]:
    """The clean set and those of the chosen defects."""
    clean = make("clean", 0.0 if astray == "reversed" else STRONG)
    sets = {"clean": clean}
    if "morph" in defects:
        sets |= {"mild morph": make("morph", MILD), "strong morph": make("morph", STRONG)}
    if "astray" in defects:
        mild = MILDLY_ASTRAY if astray == "wrong_direction" else MILD
        sets |= {"mild astray": make(astray, mild), "strong astray": make(astray, STRONG)}
    if "degenerate" in defects:
        sets |= {name: make(kind, STRONG) for name, kind in DEGENERATE.items()}
        sets["repeated"] = [in_turn(clip) for clip in clean]
    return sets


def order(result: EvalResult, column: Column, defect: str) -> dict[str, bool | None]:
    """Whether clean, mildly and strongly broken sets are in order, and whether their intervals are apart."""
    cells = result.summary.cells["all", "all"]
    names = ["clean", f"mild {defect}", f"strong {defect}"]
    if not cells.keys() >= set(names):
        return {"in_order": None, "apart": None}
    found = [cells[name][column.name].estimate for name in names]
    if any(estimate.num_videos == 0 for estimate in found):
        return {"in_order": None, "apart": None}
    sign = 1 if column.higher_is_better else -1
    pairs = list(itertools.pairwise(found))
    in_order = all(sign * (better.mean - worse.mean) > 0 for better, worse in pairs)
    has_intervals = all(estimate.low == estimate.low for estimate in found)
    return {"in_order": in_order, "apart": all(_apart(*pair, sign) for pair in pairs) if has_intervals else None}


def _apart(better: Estimate, worse: Estimate, sign: int) -> bool:
    return better.low > worse.high if sign > 0 else better.high < worse.low


def summarise(result: EvalResult) -> dict[str, Any]:
    """Column -> figures of every set, and the order for both defects."""
    cells = result.summary.cells["all", "all"]
    columns = {}
    for column in result.columns:
        sets = {}
        for name in result.methods:
            cell = cells[name][column.name]
            known = cell.estimate.num_videos > 0
            sets[name] = {
                "mean": round(cell.estimate.mean, 4) if known else None,
                "low": round(cell.estimate.low, 4) if known and cell.estimate.low == cell.estimate.low else None,
                "high": round(cell.estimate.high, 4) if known and cell.estimate.high == cell.estimate.high else None,
                "failed": cell.num_failed,
            }
        orders = {defect: order(result, column, defect) for defect in ("morph", "astray")}
        columns[column.name] = {"sets": sets, **orders, "blind_to": list(column.blind_to)}
    return columns


def print_table(result: EvalResult, columns: dict[str, Any]) -> None:
    """Print a row per column as Markdown to stderr."""
    print(f"| column | {' | '.join(result.methods)} | morph | astray |", file=sys.stderr)
    print("|---" * (len(result.methods) + 3) + "|", file=sys.stderr)
    for known in result.columns:
        row = columns[known.name]
        cells = [_cell(row["sets"][name]) for name in result.methods]
        verdicts = [_verdict(row[defect]) for defect in ("morph", "astray")]
        print(f"| {' | '.join([known.heading, *cells, *verdicts])} |", file=sys.stderr)


def _cell(found: dict[str, Any]) -> str:
    failed = f"{found['failed']} failed" if found["failed"] else ""
    if found["mean"] is None:
        return failed or "–"
    interval = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['mean']:.3f}{interval}" + (f" ({failed})" if failed else "")


def _verdict(found: dict[str, bool | None]) -> str:
    if found["in_order"] is None:
        return "–"
    return "ordered, apart" if found["apart"] else "ordered" if found["in_order"] else "not ordered"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two clips per set, psnr alone, under a minute")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="real clips with camera paths, instead of rendered")
    parser.add_argument("--max-side", type=int, help="longer side that real clips are shrunk to")
    parser.add_argument("--size", type=int, default=64, help="side of rendered clips in pixels")
    parser.add_argument("--frames", type=int, default=9, help="frames of rendered clips")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS))
    parser.add_argument("--defects", nargs="+", choices=DEFECTS, default=list(DEFECTS))
    parser.add_argument("--reconstructor", help="instead of the default one")
    parser.add_argument("--out", type=Path, help="folder for the files of the evaluation")
    args = parser.parse_args()
    most = 2 if args.quick else None
    metrics = ["psnr"] if args.quick else args.metrics
    try:
        if args.clips is None:
            make, astray = rendered(MOVES[:most], 48 if args.quick else args.size, args.frames), "wrong_direction"
        else:
            make, astray = filmed(args.clips, args.max_side, most), "reversed"
        sets = make_sets(make, astray, args.defects)
        result = evaluate(sets, metrics=metrics, reconstructor=args.reconstructor, out=args.out)
    except UserError as error:
        reason = " ".join(str(error).split())
        print(f"skipped: {reason}", file=sys.stderr)
        print(json.dumps({"skipped": reason}))
        return
    columns = summarise(result)
    print_table(result, columns)
    first = next(iter(columns.values()))["sets"]
    print(json.dumps({"clips": str(args.clips or "rendered"), "sets": list(first), "columns": columns}))


if __name__ == "__main__":
    main()
