"""How accurate are the cameras of a reconstructor, move by move? Rendered worlds with exact truth, one core.

    python benchmarks/camera_accuracy.py --quick               # five clips at half size, under a minute
    python benchmarks/camera_accuracy.py                       # `auto`, every family and move, 180x320x17, H.264
    python benchmarks/camera_accuracy.py --pairs               # every ordered pair of moves, families in turn
    python benchmarks/camera_accuracy.py --reconstructor direct --size 128 128
    python benchmarks/camera_accuracy.py --unknown-focal       # the reconstructor is not told the intrinsics
    python benchmarks/camera_accuracy.py --focal-error 0.15    # it is told a focal length that is 15 % too long

The rotation error is the geodesic angle of a frame in degrees, mean and worst; the path error is the root mean square
distance of the camera centres after similarity alignment, over the path's extent. A clip is right if it has the right
kind of motion, a mean rotation error below 0.5 degrees and a path error below 2 %. Seconds are CPU seconds of
reconstruction and re-render; `seconds_over_limit` compares the slowest clip with 10 s for 256x456x16, in proportion to
the pixels. A table goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reconstructors.camera_errors import path_error, rotation_errors
from worldr1_core.clip import Clip
from worldr1_core.compose import compose_scoring
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.probes.world import FAMILIES, MOVES, render_world

SECONDS_PER_PIXEL = 10 / (256 * 456 * 16)
MAX_ROTATION, MAX_PATH = 0.5, 0.02
"""Bars in degrees (mean over the frames) and in shares of the path's extent."""
QUICK = (
    ("rich", ("push in",)),
    ("soft", ("orbit left",)),
    ("noise", ("move right", "pan left")),
    ("tiles", ("pan left",)),
    ("plain", ("fixed",)),
)


def encoded(video: Video) -> Video:
    """The clip after a trip through an mp4 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(video, path)
        return read_video(path)


def load_reconstructor(name: str) -> Reconstructor:
    """The installed reconstructor of this name, with its default options."""
    manifest = f"version: 1\nreconstructor: {{name: {name}}}\nrewards: [{{name: reconstruction}}]\n"
    registry = installed().registry
    reconstructor = compose_scoring(parse_manifest(manifest, registry), registry).reconstructor
    assert reconstructor is not None
    return reconstructor


def expected_kind(moves: Sequence[str]) -> str:
    """How the camera really moves: one that both turns and travels is moving."""
    kinds = {"turning" if move.startswith("pan") else "resting" if move == "fixed" else "moving" for move in moves}
    return next(kind for kind in ("moving", "turning", "resting") if kind in kinds)


def measure(
    reconstructor: Reconstructor, family: str, moves: Sequence[str], seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Reconstruct one clip and compare it with the truth."""
    world = render_world(family, moves, seed=seed, size=tuple(args.size), num_frames=args.frames)
    video = encoded(Video(world.frames)) if args.encode else Video(world.frames)
    intrinsics = world.intrinsics.clone()
    intrinsics[[0, 1], [0, 1]] *= 1 + args.focal_error
    row: dict[str, Any] = {"family": family, "moves": " then ".join(moves)}
    start = time.process_time()
    try:
        result = reconstructor.reconstruct(Clip(video, intrinsics=None if args.unknown_focal else intrinsics))
    except ScoreUnavailable as error:
        return row | {"ok": False, "reason": str(error)}
    render = result.rerender()
    row["seconds"] = time.process_time() - start
    errors = rotation_errors(result.trajectory.c2w, world.c2w)
    row |= {"rotation_mean": float(errors.mean()), "rotation_worst": float(errors.max())}
    row["kind"], expected = result.diagnostics["motion"], expected_kind(moves)
    row["path"] = path_error(result.trajectory.c2w, world.c2w) if row["kind"] == expected == "moving" else None
    row["cameras_from"] = result.diagnostics.get("cameras_from")
    mse = ((render.frames - video.frames).square().mean(1) * render.coverage).sum() / render.coverage.sum()
    row["psnr"] = float(-10 * mse.clamp(min=1e-10).log10())
    accurate = row["rotation_mean"] < MAX_ROTATION and (row["path"] or 0.0) < MAX_PATH
    row["ok"] = row["kind"] == expected and accurate
    return row


def choose_cases(args: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """Families and moves that are rendered."""
    if args.quick:
        return list(QUICK)
    if args.pairs:
        pairs = [pair for pair in itertools.permutations(MOVES, 2) if "fixed" not in pair]
        return [(FAMILIES[number % len(FAMILIES)], pair) for number, pair in enumerate(pairs)]
    return [(family, (move,)) for family in FAMILIES for move in MOVES]


def summarise(rows: Sequence[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Figures over all clips, and over the clips of each move (of each pair's first move)."""
    done = [row for row in rows if "seconds" in row]
    seconds = sorted(row["seconds"] for row in done)
    paths = [row["path"] for row in done if row["path"] is not None]
    limit = SECONDS_PER_PIXEL * args.size[0] * args.size[1] * args.frames
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["moves"].partition(" then ")[0], []).append(row)
    return {
        "reconstructor": args.reconstructor,
        "clips": len(rows),
        "ok": sum(row["ok"] for row in rows),
        "ok_by_first_move": {move: f"{sum(row['ok'] for row in some)}/{len(some)}" for move, some in groups.items()},
        "rotation_mean": sum(row["rotation_mean"] for row in done) / max(len(done), 1),
        "rotation_median_worst": statistics.median(row["rotation_worst"] for row in done) if done else None,
        "rotation_worst": max((row["rotation_worst"] for row in done), default=None),
        "path_median": statistics.median(paths) if paths else None,
        "path_worst": max(paths, default=None),
        "psnr_median": statistics.median(row["psnr"] for row in done) if done else None,
        "seconds_median": seconds[len(seconds) // 2] if seconds else None,
        "seconds_worst": seconds[-1] if seconds else None,
        "seconds_over_limit": seconds[-1] / limit if seconds else None,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five clips at half size")
    parser.add_argument("--pairs", action="store_true", help="two moves in every clip")
    parser.add_argument("--reconstructor", default="auto", help="registered name")
    parser.add_argument("--size", type=int, nargs=2, default=(180, 320), metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    parser.add_argument("--encode", action=argparse.BooleanOptionalAction, default=True, help="through H.264")
    parser.add_argument("--unknown-focal", action="store_true", help="do not tell the intrinsics")
    parser.add_argument("--focal-error", type=float, default=0.0, help="relative error of the focal length given")
    args = parser.parse_args()
    if args.quick:
        args.size = tuple(side // 2 for side in args.size)
    torch.set_num_threads(1)
    reconstructor = load_reconstructor(args.reconstructor)
    rows = []
    for number, (family, moves) in enumerate(choose_cases(args)):
        rows.append(measure(reconstructor, family, moves, args.seed + number, args))
        print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps(summarise(rows, args)))


if __name__ == "__main__":
    main()
