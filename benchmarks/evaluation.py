r"""Which columns of `worldr1 eval` order sets of videos with known defects, and with what uncertainty?

    python benchmarks/evaluation.py --quick                         # two clips per set, psnr alone, under a minute
    python benchmarks/evaluation.py                                 # rendered clips, about ten minutes
    python benchmarks/evaluation.py --clips clips --max-side 228    # your own clips with known cameras
    python benchmarks/evaluation.py --clips clips --kinds all

`corrupted_sets.py` defines the sets and which columns should see which defect. Rendered clips: `morph` and the
degenerate sets on clips that travel, the defects of the camera on orbits, which have both travel and rotation. Real
clips, in a folder as for `benchmarks/real_footage.py`: all defects on all clips.

For every column, the means and 95 % intervals of all sets, and for every defect whether the clean, mild and strong sets
are ordered: "apart" if their intervals do not overlap, "clear" if only the intervals of the paired differences, clip by
clip, exclude 0. `not_apart` lists the columns that should see a defect and whose intervals overlap.

`--kinds` compares real clips with corruptions and hacks of `worldr1_rewards.probes.footage_corruptions` at full
severity instead: how many clean clips are better than their own broken version. A broken clip without a value counts as
worse. `total` is `reconstruction` + `trajectory`, as in the default manifest.

Tables go to stderr, progress too; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corrupted_sets import (
    ASTRAY,
    CLEAN,
    DEFECTS,
    DEGENERATE,
    JITTER,
    MORPH,
    SLOW,
    Defect,
    Filmed,
    Order,
    Rendered,
    degenerate_sets,
    find_order,
    is_caught,
    ordered_sets,
    values_of,
)

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_rewards import EvalResult, evaluate
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.summary import ALL, Cell
from worldr1_rewards.probes.footage_corruptions import FOOTAGE_CORRUPTIONS, FOOTAGE_HACKS

TRAVEL = ("push in", "pull out", "move left", "move right", "push in", "pull out")
ORBITS = ("orbit left", "orbit right") * 3
"""Moves of rendered clips, each through a scene of its own."""
KINDS = (*FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS)
TOTAL = ("reconstruction", "trajectory")
"""Columns that add up to the total."""

Sets = dict[str, list[Clip]]
Study = tuple[Sets, Sequence[Defect]]


def rendered_studies(size: int, num_frames: int, most: int | None) -> dict[str, Study]:
    """Defects of the scene and degenerate clips on travel, defects of the camera on orbits."""
    travel, orbits = (Rendered(moves[:most], size, num_frames) for moves in (TRAVEL, ORBITS))
    scene, camera = (MORPH,), (ASTRAY, SLOW, JITTER)
    return {
        "scene": (ordered_sets(travel, scene) | degenerate_sets(travel), scene),
        "camera": (ordered_sets(orbits, camera), camera),
    }


def filmed_studies(source: Filmed, kinds: Sequence[str]) -> dict[str, Study]:
    """All defects on all clips; or, if there are any, kinds of corruptions and hacks at full severity."""
    if kinds:
        return {"kinds": ({kind: source.make(kind) for kind in (CLEAN, *kinds)}, ())}
    return {"clips": (ordered_sets(source, DEFECTS) | degenerate_sets(source), DEFECTS)}


def summarise(result: EvalResult, defects: Sequence[Defect]) -> dict[str, Any]:
    """Column -> figures of every set, orders, and the degenerate sets that it does not catch."""
    cells = result.summary.cells[ALL]
    degenerate = [kind for kind in DEGENERATE if kind in cells]
    columns = {}
    for column in result.columns:
        orders = {defect.name: find_order(result, column, defect) for defect in defects}
        columns[column.name] = {
            "sets": {name: _figures(cells[name][column.name]) for name in result.methods},
            "orders": {name: None if order is None else str(order) for name, order in orders.items()},
            "not_apart": [defect.name for defect in defects if _overlaps(column, defect, orders[defect.name])],
            "misses": [kind for kind in degenerate if is_caught(result, column, kind) is False],
            "blind_to": list(column.blind_to),
        }
    return columns


def _overlaps(column: Column, defect: Defect, order: Order | None) -> bool:
    return column.name in defect.seen_by and order is not None and order.is_apart is False


def count_better(result: EvalResult) -> dict[str, dict[str, list[int]]]:
    """Column, or `total` -> kind -> number of clips that are better than their own broken version, of how many."""
    kinds = [name for name in result.methods if name != CLEAN]
    found = {
        column.name: {kind: _better(_values(result, column, CLEAN), _values(result, column, kind)) for kind in kinds}
        for column in result.columns
    }
    total = {name: _totals(result, name) for name in result.methods}
    found["total"] = {kind: _better(total[CLEAN], total[kind]) for kind in kinds}
    return found


def _values(result: EvalResult, column: Column, name: str) -> dict[tuple[int, int], float]:
    sign = 1 if column.higher_is_better else -1
    return {pair: sign * value for pair, value in values_of(result, name, column.name).items()}


def _totals(result: EvalResult, name: str) -> dict[tuple[int, int], float]:
    parts = [values_of(result, name, column) for column in TOTAL]
    pairs = set.intersection(*(set(part) for part in parts))
    return {pair: sum(part[pair] for part in parts) for pair in pairs}


def _better(clean: dict[tuple[int, int], float], broken: dict[tuple[int, int], float]) -> list[int]:
    return [sum(pair not in broken or value > broken[pair] for pair, value in clean.items()), len(clean)]


def _figures(cell: Cell) -> dict[str, float | int | None]:
    found = cell.estimate
    rounded = {
        name: round(value, 4) if value == value else None
        for name, value in (("mean", found.mean), ("low", found.low), ("high", found.high))
    }
    return {**rounded, "failed": cell.num_failed}


def print_table(result: EvalResult, columns: dict[str, Any], defects: Sequence[Defect]) -> None:
    """Print a row per column as Markdown to stderr."""
    print(f"| column | {' | '.join([*result.methods, *(defect.name for defect in defects)])} |", file=sys.stderr)
    print("|---" * (1 + len(result.methods) + len(defects)) + "|", file=sys.stderr)
    for known in result.columns:
        row = columns[known.name]
        cells = [_cell(row["sets"][name], known) for name in result.methods]
        orders = [_verdict(row, known, defect) for defect in defects]
        print(f"| {' | '.join([known.heading, *cells, *orders])} |", file=sys.stderr)


def _cell(found: dict[str, Any], column: Column) -> str:
    failed = f"{found['failed']} failed" if found["failed"] else ""
    if found["mean"] is None:
        return failed or "–"
    interval = "" if found["low"] is None else f" [{column.shown(found['low'])}, {column.shown(found['high'])}]"
    return column.shown(found["mean"]) + interval + (f" ({failed})" if failed else "")


def _verdict(row: dict[str, Any], column: Column, defect: Defect) -> str:
    text = row["orders"][defect.name] or "–"
    return f"**{text}**" if column.name in defect.seen_by else text


def print_counts(counts: dict[str, dict[str, list[int]]]) -> None:
    """Print a row per column as Markdown to stderr: clean clips above their own broken version, by kind."""
    kinds = list(next(iter(counts.values())))
    print(f"| column | {' | '.join(kinds)} |", file=sys.stderr)
    print("|---" * (1 + len(kinds)) + "|", file=sys.stderr)
    for name, row in counts.items():
        print(f"| {name} | {' | '.join(f'{won}/{of}' for won, of in row.values())} |", file=sys.stderr)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two clips per set, psnr alone, under a minute")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="real clips with camera paths, instead of rendered")
    parser.add_argument("--max-side", type=int, help="longer side that real clips are shrunk to")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, "all"], default=[], help="real clips against these")
    parser.add_argument("--size", type=int, default=64, help="side of rendered clips in pixels")
    parser.add_argument("--frames", type=int, default=9, help="frames of rendered clips")
    parser.add_argument("--metrics", nargs="+", default=["default"])
    parser.add_argument("--studies", nargs="+", metavar="NAME", help="some of the studies: scene, camera")
    parser.add_argument("--reconstructor", help="instead of the default one")
    parser.add_argument("--out", type=Path, help="folder for the files of the evaluation, by which it is resumed")
    args = parser.parse_args()
    if args.kinds and args.clips is None:
        parser.error("--kinds compares real clips: add --clips DIR")
    kinds = KINDS if "all" in args.kinds else args.kinds
    most = 2 if args.quick else None
    report: dict[str, Any] = {"clips": str(args.clips or "rendered")}
    try:
        if args.clips is None:
            studies = rendered_studies(48 if args.quick else args.size, args.frames, most)
        else:
            studies = filmed_studies(Filmed(args.clips, args.max_side, most), kinds)
        for name, (sets, defects) in studies.items():
            if args.studies is not None and name not in args.studies:
                continue
            metrics = ["psnr"] if args.quick else args.metrics
            out = None if args.out is None else args.out / name
            result = evaluate(sets, metrics=metrics, reconstructor=args.reconstructor, out=out, num_shown=0)
            if kinds:
                report[name] = count_better(result)
                print_counts(report[name])
            else:
                report[name] = {"sets": list(sets), "columns": summarise(result, defects)}
                print_table(result, report[name]["columns"], defects)
    except UserError as error:
        reason = " ".join(str(error).split())
        print(f"skipped: {reason}", file=sys.stderr)
        report = {"skipped": reason}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
