"""What does a GPU change? The same clips, videos and training steps on the CPU and on a CUDA device, in one run.

    python benchmarks/gpu.py                        # on a machine with CUDA, at most 8 minutes
    python benchmarks/gpu.py --quick                # small sizes, without the tests, under a minute
    python benchmarks/gpu.py --device cpu --quick   # tries the script itself where there is no GPU: CPU against CPU
    python benchmarks/gpu.py --sections train       # some of the sections

- `reconstruct`: `auto` on a rendered clip: seconds of reconstruction and re-render, camera errors in degrees against
  the truth, PSNR of the covered pixels, and how far both devices are apart.
- `score`: rewards of the default manifest for that clip.
- `sample`: videos per second (text, denoising, decoding) of tiny-wan and of a random Wan of width 1024; the largest
  difference of latents from the same noise, in float32 with and without TF32 convolutions and in bfloat16.
- `train`: seconds per optimiser step of `examples/tiny.yaml` and `examples/tiny-flow-grpo.yaml` with few videos; loss
  and gradient norm of the first step. Without `--quick` also with `gradient_checkpointing`, which recomputes
  activations to save memory, and in bfloat16.
- `tests`: the tests marked `gpu`; left out by `--quick`.

`speedup` is seconds on the CPU over seconds on the device; the first call on each is not counted. `threads` are the
CPU's. Every section runs in a process of its own, so that one that fails leaves the others; its result goes to stderr
at once. The exit status is 1 if a section failed or missed a bar, and 0 where there is no CUDA device to measure. A
table goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
TOTAL_SECONDS, SECTION_SECONDS = 470, 180
"""What takes longer has failed: all sections together, and each of them."""
SECTIONS = {
    "reconstruct": "devices.scoring:reconstruct",
    "score": "devices.scoring:score",
    "sample": "devices.sampling:sample",
    "train": "devices.training:train",
    "tests": "devices.suite:run_tests",
}
"""Functions of the device and of `--quick`, imported in the process of their section."""


def run_here(name: str, device: str, quick: bool) -> dict[str, Any]:
    """A section in this process; `error` says why there are no figures."""
    start = time.perf_counter()
    try:
        module, _, function = SECTIONS[name].partition(":")
        found = getattr(importlib.import_module(module), function)(device, quick)
    except Exception as error:  # noqa: BLE001 - what fails here must not take the other sections down
        found = {"error": f"{type(error).__name__}: {error}"}
    return {**found, "section_seconds": time.perf_counter() - start}


def run_apart(name: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A section in a process of its own: an error on the device spoils everything that comes after it."""
    command = [sys.executable, __file__, "--device", args.device, "--here", name, *(["--quick"] if args.quick else [])]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"TimeoutExpired: took more than the {seconds:.0f} s that were left for it"}
    except (IndexError, json.JSONDecodeError):
        return {"error": f"RuntimeError: the process ended with status {done.returncode} and no result"}


def lines(name: str, found: dict[str, Any]) -> list[str]:
    """What is printed of a section for people."""
    if "error" in found or "skipped" in found:
        return [f"{name}: " + " ".join(found[key] for key in ("error", "skipped") if key in found)]
    shown = [f"{name}: {found['section_seconds']:.1f} s, {json.dumps({k: v for k, v in found.items() if k != 'bars'})}"]
    for bar, row in found["bars"].items():
        shown.append(f"  {bar:32} {row['value']!s:24} {row['bar']:8} {'passed' if row['passed'] else 'MISSED'}")
    return shown


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="what the CPU is compared with")
    parser.add_argument("--quick", action="store_true", help="small sizes, without the tests")
    parser.add_argument("--sections", nargs="+", choices=tuple(SECTIONS), default=list(SECTIONS), metavar="NAME")
    parser.add_argument("--here", choices=tuple(SECTIONS), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    args = _parse(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        reason = f"torch {torch.__version__} sees no CUDA device; --device cpu tries the script without one"
        print(f"skipped: {reason}", file=sys.stderr)
        print(json.dumps({"skipped": reason}))
        return 0
    if args.here is not None:
        print(json.dumps(run_here(args.here, args.device, args.quick)))
        return 0
    start, found = time.perf_counter(), {}
    for name in args.sections:
        left = max(0.0, start + TOTAL_SECONDS - time.perf_counter())
        found[name] = run_apart(name, args, min(left, SECTION_SECONDS))
        print("\n".join(lines(name, found[name])), file=sys.stderr, flush=True)
    bars = {f"{name}.{bar}": row for name, part in found.items() for bar, row in part.get("bars", {}).items()}
    ok = all(row["passed"] for row in bars.values()) and not any("error" in part for part in found.values())
    summary = {
        "torch": torch.__version__,
        "quick": args.quick,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "seconds": time.perf_counter() - start,
        "ok": ok,
        "sections": found,
    }
    print(json.dumps(summary))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
