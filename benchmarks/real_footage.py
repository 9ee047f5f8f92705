r"""How well are real clips with known cameras reconstructed and scored? A folder of your own clips, one thread.

    python benchmarks/real_footage.py --clips clips --quick                 # one clip at half size, under a minute
    python benchmarks/real_footage.py --clips clips --figure figure.png     # every clip, all reconstructors
    python benchmarks/real_footage.py --clips clips --reconstructors auto --corruptions --long

The folder holds NAME.mp4 (or another format of a video) with its camera path in NAME.json (any format that
`load_trajectory` reads), and perhaps NAME-intrinsics.json. A clip without a camera path counts as generated: it only
serves the comparison of real with generated clips. Without clips the script says so and has nothing to measure.

For each clip and reconstructor:

- With the given intrinsics: rotation error in degrees relative to frame 0 (mean and worst frame), root mean square
  error of the camera centres after scale alignment in percent of the path's extent, PSNR of the re-render (covered
  pixels, mean and worst frame), coverage, covered share of what any other frame sees by the reconstruction's own
  geometry, `reconstruction` and `trajectory` of the default manifest with the path as the command, seconds of
  reconstruction and re-render (wall and CPU, processes they start included), growth of peak memory. A small rendered
  clip goes first, so that imports and weights do not count.
- With unknown intrinsics: estimated focal length over the true one, its stated deviation and source, camera errors, and
  `reconstruction` with no path (gate static-gain), which generated clips are compared by.
- `trajectory` of the nine single camera words, as words without a path: the winner and its margin.
- `--corruptions`: every kind of `worldr1_rewards.probes.footage_corruptions` at severity 1. Clean and broken clips
  alike go through an H.264 file. What ranks them is the total of the default manifest; the ranks by `reconstruction`
  with `metric: lpips` stand beside those of the weights-free metric where AlexNet's weights are in torch's cache.
- `--long`: the first clip as 81 frames of 480x832 along the same path. The clip is enlarged and cropped; the frames
  between are drawn by `auto`'s reconstruction of it, and what that does not cover is taken from the nearest filmed
  frame. Seconds, and GiB beyond those of the frames.

"bars" are those of the first reconstructor; each report has its own. A table goes to stdout, progress to stderr; the
last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from footage.figure import stack
from footage.run import Job, has_lpips_weights, measure

from worldr1_core.errors import OutputError, UserError, VideoError
from worldr1_core.files import atomic_path
from worldr1_rewards.probes.footage_files import FootageFiles, find_footage
from worldr1_rewards.probes.summary import as_json

RECONSTRUCTORS = ("auto", "colmap", "direct", "da3")
QUICK_SIDE = 228
"""Longer side in pixels of the clips of `--quick`."""
QUICK_CLIPS = 1
"""Clips of `--quick`, all with a path."""


def find_clips(folder: Path, most: int | None = None) -> tuple[list[FootageFiles], list[FootageFiles], dict[str, str]]:
    """Clips with a camera path, clips without, and label -> reason of those that cannot be used.

    Args:
        folder: See `find_footage`.
        most: Stop at so many clips with a path, and return none without.

    Raises:
        VideoError: There is no such folder, or no clip in it.
    """
    files, problems = find_footage(folder)
    usable: dict[bool, list[FootageFiles]] = {True: [], False: []}
    left_out = dict(problems)
    for entry in files:
        has_path = entry.request.trajectory is not None
        if most is not None and (not has_path or len(usable[True]) == most):
            continue
        try:
            entry.load()
        except UserError as error:
            left_out[entry.label] = " ".join(str(error).split())
        else:
            usable[has_path].append(entry)
    return usable[True], usable[False], left_out


def _apart(job: Job) -> dict[str, Any]:
    """Measure in a process of its own: memory that an allocator keeps would hide what the next one needs."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, job).result()


def _number(value: Any, digits: int = 2, unit: str = "") -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}{unit}"


def _cameras(row: Mapping[str, Any]) -> str:
    mean, worst, centre = (row.get(key) for key in ("rotation_mean", "rotation_worst", "centre_percent"))
    return f"rotation {_number(mean, 3)} (worst {_number(worst, 3)}) deg, centres {_number(centre)} %"


def clip_lines(label: str, row: Mapping[str, Any]) -> list[str]:
    """What is printed of a clip."""
    lines, known, unknown, words = [f"  {label}"], row["known"], row["unknown"], row["words"]
    for name, part in (("known", known), ("unknown", unknown)):
        reasons = {} if part is None else part["reasons"]
        lines += [f"    {name} intrinsics: no {reward}: {why}" for reward, why in reasons.items()]
    if known is not None and "psnr" in known:
        lines += _known_lines(known)
    if "psnr" in unknown:
        lines.append(
            f"    unknown intrinsics: focal/true {_number(unknown.get('focal_over_true'), 3)} "
            f"(log deviation {_number(unknown.get('focal_deviation'), 3)}, {unknown.get('focal_source')}), "
            f"{_cameras(unknown)}, reconstruction without a path {_number(unknown['reconstruction'], 3)}"
        )
    if words is not None:
        lines.append(
            f"    words: {words['winner']} {_number(words['scores'][words['winner']], 3)}, "
            f"ahead of {words['runner_up']} by {_number(words['margin'], 3)}"
        )
    return lines


def _known_lines(row: Mapping[str, Any]) -> list[str]:
    seen, cost = _number(row["coverage_of_visible"], 3), row["cost"]
    return [
        f"    known intrinsics: {_cameras(row)}",
        f"    re-render: PSNR {_number(row['psnr'])} (worst frame {_number(row['psnr_worst_frame'])}) dB, "
        f"coverage {_number(row['coverage'], 3)} (of what other frames see {seen})",
        f"    reconstruction {_number(row.get('reconstruction'), 3)}, trajectory {_number(row.get('trajectory'), 3)}; "
        f"{_number(cost['reconstruct'])} + {_number(cost['rerender'])} s (CPU {_number(cost['cpu'])} s), "
        f"{_number(row['gib'])} GiB",
    ]


def separation_lines(part: Mapping[str, Any]) -> list[str]:
    """What is printed of the corruptions."""
    if "skipped" in part:
        return [f"  corruptions: skipped: {part['skipped']}"]
    lines = []
    for name, found in part.items():
        if name == "rows":
            continue
        lines.append(
            f"  corruptions by {name}: pairs {_number(found['pairs'], 3)} of {found['pairs_counted']}, "
            f"AUC pooled {_number(found['auc_pooled'], 3)}, hacks at most {_number(found['hacks_highest'], 3)} against "
            f"the lowest clean clip {_number(found['clean_lowest'], 3)}, without a score {found['without_score'] or 0}"
        )
        lines.append("    AUC " + ", ".join(f"{kind} {_number(value)}" for kind, value in found["auc"].items()))
        if found["pairs_lost"]:
            lines.append(f"    pairs not won: {'; '.join(found['pairs_lost'])}")
    return lines


def report_lines(name: str, report: Mapping[str, Any]) -> list[str]:
    """The table of one reconstructor."""
    if "cannot_run" in report:
        return [f"{name}: cannot run: {report['cannot_run']}"]
    lines = [f"{name}:"]
    for label, row in report["clips"].items():
        lines += clip_lines(label, row)
    if "real_and_generated" in report:
        found = report["real_and_generated"]
        scores = ", ".join(f"{label} {_number(value, 3)}" for label, value in found["generated"].items())
        lines.append(
            f"  generated, no path: {scores}; real at least {_number(found['real_lowest'], 3)}, "
            f"AUC of real above generated {_number(found['auc'], 3)}"
        )
    lines += separation_lines(report["corruptions"]) if "corruptions" in report else []
    if "long" in report:
        long = report["long"]
        spent = "; ".join(long["reasons"].values()) or (
            f"{_number(long.get('seconds'), 1)} s (CPU {_number(long.get('cpu_seconds'), 1)} s), "
            f"{_number(long.get('gib'))} GiB beyond the frames' {_number(long.get('frames_gib'))} GiB, {_cameras(long)}"
        )
        lines.append(f"  long version of {long['clip']}: {spent}")
    for bar, found in report["bars"].items():
        verdict = {True: "passed", False: "FAILED", None: "not measured"}[found["passed"]]
        lines.append(f"  {bar:22} {_number(found['value'], 3):>8}   {found['bar']:8} {verdict}")
    return lines


def _skip(reason: str) -> None:
    print(f"skipped: {reason}")
    print(json.dumps({"skipped": reason}))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder of clips with their cameras")
    parser.add_argument("--reconstructors", nargs="+", metavar="NAME", help=f"{' '.join(RECONSTRUCTORS)} by default")
    parser.add_argument("--corruptions", action="store_true", help="rank clean clips among broken ones")
    parser.add_argument("--long", action="store_true", help="cost of 81 frames of 480x832")
    parser.add_argument("--quick", action="store_true", help="auto on one clip with a path, at half size")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="picture of the first clip")
    args = parser.parse_args(argv)
    if args.quick and (args.corruptions or args.long):
        parser.error("--quick leaves out --corruptions and --long; give one or the other")
    if args.figure is not None and args.figure.suffix.lower() != ".png":
        parser.error(f"--figure writes .png, received {str(args.figure)!r}")
    args.reconstructors = list(dict.fromkeys(args.reconstructors or RECONSTRUCTORS[: 1 if args.quick else None]))
    return args


def _write_figure(reports: Mapping[str, dict[str, Any]], path: Path) -> None:
    panels = [report.pop("panel") for report in reports.values() if "panel" in report]
    if not panels:
        print("figure: skipped: no clip with a path was measured", file=sys.stderr)
        return
    with atomic_path(path) as temporary:
        try:
            stack(panels).save(temporary, "PNG")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error}.") from error


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = _parse(argv)
    if args.clips is None:
        _skip("no folder of clips was given; pass --clips DIR")
        return
    try:
        real, generated, left_out = find_clips(args.clips, QUICK_CLIPS if args.quick else None)
    except VideoError as error:
        _skip(" ".join(str(error).split()))
        return
    for label, reason in left_out.items():
        print(f"left out: {label}: {reason}")
    if not real:
        _skip("no clip of the folder has a camera path beside it (NAME.json for NAME.mp4)")
        return
    reports = {}
    for name in args.reconstructors:
        job = Job(
            name,
            args.clips,
            tuple(real),
            tuple(generated),
            max_side=QUICK_SIDE if args.quick else None,
            corruptions=args.corruptions,
            long=args.long,
            figure=args.figure is not None,
        )
        reports[name] = measure(job) if len(args.reconstructors) == 1 else _apart(job)
        print("\n".join(report_lines(name, reports[name])), flush=True)
    if not has_lpips_weights():
        print("metric lpips: skipped: torch's cache does not hold AlexNet's weights")
    if args.figure is not None:
        _write_figure(reports, args.figure)
    first = args.reconstructors[0]
    summary = {
        "torch": torch.__version__,
        "quick": args.quick,
        "left_out": left_out,
        "lpips": "measured with --corruptions" if has_lpips_weights() else "skipped: no weights in torch's cache",
        "judged": first,
        "bars": reports[first].get("bars", {}),
        "reconstructors": reports,
    }
    print(json.dumps(as_json(summary), allow_nan=False))


if __name__ == "__main__":
    main()
