"""How accurate and how fast is the `direct` reconstructor? Rendered worlds with exact truth, one core.

    python benchmarks/direct.py --quick               # under a minute
    python benchmarks/direct.py                       # every family and move at 128x128x17
    python benchmarks/direct.py --encode              # every clip goes through H.264 first
    python benchmarks/direct.py --focal-error 0.15    # the guess is 15 % too long

The rotation error is the geodesic angle of a frame in degrees, mean and worst; the path error is the root mean square
distance of the camera centres after similarity alignment, over the path's extent. Seconds are CPU seconds of
reconstruction and re-render; the limit they are compared with is 2 s at 128x128x17 and 8 s at 240x416x17. A table goes
to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reconstructors.camera_errors import path_error, rotation_errors
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.probes.world import FAMILIES, MOVES, render_world
from worldr1_rewards.reconstructors.direct import DirectReconstructor

LIMITS = {(128, 128): 2.0, (240, 416): 8.0}
QUICK = (
    ("rich", "push in"),
    ("soft", "orbit left"),
    ("noise", "move right"),
    ("tiles", "pan left"),
    ("plain", "fixed"),
)


def encoded(video: Video) -> Video:
    """The clip after a trip through an mp4 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(video, path)
        return read_video(path)


def expected_kind(move: str) -> str:
    """How the camera really moves."""
    return "turning" if move.startswith("pan") else "resting" if move == "fixed" else "moving"


def measure(family: str, move: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Reconstruct one clip and compare it with the truth."""
    world = render_world(family, move, seed=seed, size=tuple(args.size), num_frames=args.frames)
    video = encoded(Video(world.frames)) if args.encode else Video(world.frames)
    intrinsics = world.intrinsics.clone()
    intrinsics[[0, 1], [0, 1]] *= 1 + args.focal_error
    row: dict[str, Any] = {"family": family, "move": move}
    start = time.process_time()
    try:
        result = DirectReconstructor().reconstruct(Clip(video, intrinsics=intrinsics))
    except ScoreUnavailable as error:
        return row | {"ok": False, "reason": str(error)}
    render = result.rerender()
    row["seconds"] = time.process_time() - start
    errors = rotation_errors(result.trajectory.c2w, world.c2w)
    row |= {"rotation_mean": float(errors.mean()), "rotation_worst": float(errors.max())}
    row["kind"] = result.diagnostics["motion"]
    row["path"] = (
        path_error(result.trajectory.c2w, world.c2w) if row["kind"] == expected_kind(move) == "moving" else None
    )
    mse = ((render.frames - video.frames).square().mean(1) * render.coverage).sum() / render.coverage.sum()
    row["psnr"] = float(-10 * mse.clamp(min=1e-10).log10())
    row["ok"] = row["kind"] == expected_kind(move) and row["rotation_mean"] < 0.5 and (row["path"] or 0.0) < 0.01
    return row


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five clips")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    parser.add_argument("--encode", action="store_true", help="send every clip through H.264")
    parser.add_argument("--focal-error", type=float, default=0.0, help="relative error of the focal length given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = QUICK if args.quick else [(family, move) for family in FAMILIES for move in MOVES]
    rows = []
    for number, (family, move) in enumerate(cases):
        rows.append(measure(family, move, args.seed + number, args))
        print(json.dumps(rows[-1]), file=sys.stderr)
    done = [row for row in rows if "seconds" in row]
    seconds = sorted(row["seconds"] for row in done)
    paths = [row["path"] for row in done if row["path"] is not None]
    limit = LIMITS.get(tuple(args.size))
    summary = {
        "clips": len(rows),
        "ok": sum(row["ok"] for row in rows),
        "rotation_mean": sum(row["rotation_mean"] for row in done) / max(len(done), 1),
        "rotation_worst": max((row["rotation_worst"] for row in done), default=None),
        "path_mean": sum(paths) / max(len(paths), 1),
        "path_worst": max(paths, default=None),
        "seconds_median": seconds[len(seconds) // 2] if seconds else None,
        "seconds_worst": seconds[-1] if seconds else None,
        "seconds_over_limit": seconds[-1] / limit if seconds and limit else None,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
