"""What does camera-warped noise cost, against transporting it from frame to frame at 16 times the latent's resolution?

    python benchmarks/noise.py --quick    # one word, one frame of the sequential transport
    python benchmarks/noise.py            # every word, four frames of it, the median of three runs

The clip is 480x832x81 with 16 channels, its latent 60x104x21. Everything runs on one core; seconds are CPU seconds, so
that other jobs on the machine count little. Each part has a process of its own, whose peak memory beyond the imports
is its own too. Sequential transport (`tests/noise/sequential.py`) is timed on a few of the 80 steps from frame to
frame and scaled to 80; how many were timed stands in the JSON. A table goes to stderr; the last line on stdout is JSON:

- `speedup`: sequential / `camera-warp` with its default options, for the slowest word; `speedup_median` for the median
one; - `speedup_flow`, `speedup_depth`: the same for given flow and given depth;
- `memory_ratio`: peak memory of `camera-warp` / of sequential transport;
- `ratio_to_gaussian`: `camera-warp`, the slowest word / drawing Gaussian noise of the same latent.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from noise.sequential import plane_step, shrink, transport
from worldr1_backbones.noise import CameraWarpNoise, GaussianNoise
from worldr1_core.backbone import LatentGeometry
from worldr1_core.camera import CameraTrajectory, Move, trajectory_from_prompt
from worldr1_core.camera.flow import pixel_grid, plane_flow
from worldr1_core.noise import NoiseConditioner, NoiseRequest

SIZE, FRAMES, CHANNELS, FACTOR = (480, 832), 81, 16, 16
GEOMETRY = LatentGeometry(CHANNELS, 21, 60, 104, FRAMES, *SIZE, 4, 8)
QUICK_WORDS = ("push in",)
WORDS = (*(move.phrase for move in Move), "push in, then pan left")
STEPS = FRAMES - 1


def path_of(words: str) -> CameraTrajectory:
    """The path of some camera words."""
    path = trajectory_from_prompt(words, FRAMES, SIZE)
    if path is None:
        raise ValueError(f"no camera word in {words!r}")
    return path


def scene_depth(path: CameraTrajectory) -> torch.Tensor:
    """Depth of a wall with a column before it, `(T, H, W)`, seen along a path without rotation."""
    focal = 1.2 * SIZE[1]
    x = (pixel_grid(*SIZE)[0] - SIZE[1] / 2) / focal
    depth = torch.empty(FRAMES, *SIZE)
    for frame, position in enumerate(path.positions):
        wall, column = 1000.0 - position[2], 600.0 - position[2]
        hit = (x * column + position[0]).abs() < 80
        depth[frame] = torch.where(hit, column, wall)
    return depth


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def draw_seconds(conditioner: NoiseConditioner, request: NoiseRequest, repeats: int) -> float:
    """CPU seconds of one request."""
    return seconds_of(lambda: conditioner.initial_noise(request), repeats)


def sequential_seconds(frames: int) -> float:
    """CPU seconds of `frames` steps of sequential transport, scaled to all steps of the clip."""
    path = path_of("push in")
    fine = (GEOMETRY.height * FACTOR, GEOMETRY.width * FACTOR)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(CHANNELS, *fine, generator=generator)
    start = time.process_time()
    for step in range(frames):
        noise = transport(noise, plane_step(path.c2w[step], path.c2w[step + 1], fine), generator)
        shrink(noise, FACTOR)
    return (time.process_time() - start) / frames * STEPS


def run_part(name: str, words: str, frames: int, repeats: int) -> dict[str, Any]:
    """Seconds and peak memory of one part."""
    warp = CameraWarpNoise()
    prompt = f"Camera {words}."
    if name == "flow":
        request = NoiseRequest(GEOMETRY, flow=plane_flow(path_of(words), SIZE))
    elif name == "depth":
        request = NoiseRequest(GEOMETRY, prompt, depth=scene_depth(path_of(words)))
    else:
        request = NoiseRequest(GEOMETRY, prompt)
    before = peak_megabytes()
    if name == "sequential":
        seconds = sequential_seconds(frames)
    else:
        seconds = draw_seconds(GaussianNoise() if name == "gaussian" else warp, request, repeats)
    return {"part": name, "words": words, "seconds": seconds, "megabytes": peak_megabytes() - before}


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(name: str, words: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run a part in a fresh interpreter."""
    command = [sys.executable, __file__, "--part", name, "--words", words]
    command += ["--frames", str(args.frames), "--repeats", str(args.repeats)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr)
    return row


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one word, one step of sequential transport")
    parser.add_argument("--frames", type=int, default=4, help="steps of sequential transport that are timed")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--words", default="push in", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        args.frames, args.repeats = 1, 1
    if args.part:
        print(json.dumps(run_part(args.part, args.words, args.frames, args.repeats)))
        return
    sequential = in_own_process("sequential", "push in", args)
    gaussian = in_own_process("gaussian", "push in", args)
    plane = [in_own_process("plane", words, args) for words in (QUICK_WORDS if args.quick else WORDS)]
    flow, depth = in_own_process("flow", "push in", args), in_own_process("depth", "move right", args)
    slowest = max(row["seconds"] for row in plane)
    summary = {
        "speedup": sequential["seconds"] / slowest,
        "speedup_median": sequential["seconds"] / statistics.median(row["seconds"] for row in plane),
        "speedup_flow": sequential["seconds"] / flow["seconds"],
        "speedup_depth": sequential["seconds"] / depth["seconds"],
        "memory_ratio": max(row["megabytes"] for row in plane) / sequential["megabytes"],
        "ratio_to_gaussian": slowest / gaussian["seconds"],
        "sequential_seconds": sequential["seconds"],
        "measured_frames": args.frames,
        "camera_warp_seconds": slowest,
        "flow_seconds": flow["seconds"],
        "depth_seconds": depth["seconds"],
        "gaussian_seconds": gaussian["seconds"],
        "sequential_megabytes": sequential["megabytes"],
        "camera_warp_megabytes": max(row["megabytes"] for row in plane),
        "words": len(plane),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
