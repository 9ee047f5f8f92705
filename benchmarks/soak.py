"""Does training survive what clusters do? A run whose rewards are at a server that a random fault hits again and again.

    python benchmarks/soak.py --quick          # about two minutes
    python benchmarks/soak.py --minutes 30     # a fault every 20 seconds

The tiny model is trained twice with the same seed: with a server that is left alone, and with one whose processes are
killed and stopped, whose answers come late, and whose connections are cut in the middle of a body. Retries should lose
nothing, so that both runs are the same: `same_steps` counts the optimiser steps with the same reward and loss,
`masked_samples` the samples that were left out for want of a score, and `evaluation_difference` holds the mean paired
difference of every metric after training, with its 95 % interval where the runs differ. The last line on stdout is
JSON; the exit status is 1 if the disturbed run did not finish, or differs by more than the interval.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from cutting_proxy import CuttingProxy

PROGRAM = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
PROMPTS = (
    "Camera push in. A red box and a blue ball in a green room with checker walls.\n"
    "Camera pan left. A yellow ball in a blue room with striped walls.\n"
    "Camera pull out. A green box in a red room with checker walls.\n"
)
SLOW_SECONDS = 4.0


def manifest(url: str, steps: int) -> dict[str, Any]:
    """Training of the tiny model; one of its rewards is at the server."""
    placement = {"name": "endpoint", "url": url, "timeout": 120, "patience": 120}
    return {
        "version": 1,
        "seed": 3,
        "device": "cpu",
        "backbone": {"name": "tiny-wan", "guidance_scale": 1.0},
        "noise": {"name": "camera-warp"},
        "sampler": {"name": "flow-sde", "num_inference_steps": 3, "window": 1, "window_stop": 2},
        "rewards": [{"name": "mean-gradient", "placement": placement}, {"name": "tiny-text-alignment", "weight": 0.5}],
        "prompts": {"main": "prompts.txt", "test": "prompts.txt"},
        "train": {
            "group_size": 4,
            "prompts_per_rollout_batch": 3,
            "micro_batch_size": 4,
            "chunks_ahead": 2,
            "max_steps": steps,
            "stages": [{"steps": 100, "prompts": "main"}],
            "adapter": {"rank": 4, "alpha": 4},
            "optimiser": {"learning_rate": 1.0e-3},
            "ema": {"decay": 0.5, "every": 1},
            "checkpoints": {"every": 10},
            "evaluation": {
                "num_prompts": 3,
                "batch_size": 3,
                "metrics": ["contrast"],
                "diversity": None,
                "num_shown": 0,
            },
        },
    }


class Server:
    """`worldr1 serve` behind a proxy; it is started again where it was when it has been killed."""

    def __init__(self, folder: Path) -> None:
        self._manifest = folder / "served.yaml"
        self._manifest.write_text(json.dumps({"version": 1, "device": "cpu", "rewards": [{"name": "mean-gradient"}]}))
        self._log = (folder / "server.log").open("a")
        self.port = 0
        self.start()
        self.proxy = CuttingProxy(self.port)

    def start(self) -> None:
        """Start it, and wait until it can score."""
        command = [*PROGRAM, "--log-level", "warning", "serve", str(self._manifest), "--port", str(self.port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])

    def worker(self) -> int | None:
        """Process id of its worker, if there is one at the moment."""
        children = [path.read_text() for path in Path(f"/proc/{self.process.pid}/task").glob("*/children")]
        return next((int(child) for text in children for child in text.split()), None)

    def stop(self) -> None:
        """End it."""
        self.proxy.__exit__(None, None, None)
        self.process.kill()
        self.process.wait()
        self._log.close()

    # Faults

    def kill_worker(self) -> None:
        """SIGKILL for the worker; the server starts another one."""
        if (worker := self.worker()) is not None:
            os.kill(worker, signal.SIGKILL)

    def kill_server(self) -> None:
        """SIGKILL for the server; it is started again after a moment."""
        self.process.kill()
        self.process.wait()
        time.sleep(1)
        self.start()

    def pause_worker(self) -> None:
        """SIGSTOP and, after a while, SIGCONT for the worker."""
        if (worker := self.worker()) is not None:
            _pause(worker)

    def pause_server(self) -> None:
        """The same for the server."""
        _pause(self.process.pid)

    def answer_slowly(self) -> None:
        """One answer comes late."""
        self.proxy.delay_next(SLOW_SECONDS)

    def cut_request(self) -> None:
        """A connection is cut in the middle of a request."""
        self.proxy.cut_next("request", 5000)

    def cut_answer(self) -> None:
        """A connection is cut in the middle of an answer."""
        self.proxy.cut_next("answer", 200)

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        """All faults by their names."""
        names = (
            *("kill_worker", "kill_server", "pause_worker", "pause_server"),
            *("answer_slowly", "cut_request", "cut_answer"),
        )
        return {name: getattr(self, name) for name in names}


def _pause(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(SLOW_SECONDS)
    os.kill(pid, signal.SIGCONT)


def disturb(server: Server, every: float, done: threading.Event, counts: Counter[str]) -> None:
    """Cause a random fault again and again until `done`; each kind comes once before any comes twice."""
    draw, left = random.Random(0), list[str]()
    while not done.wait(every * draw.uniform(0.5, 1.5)):
        left = left or draw.sample(sorted(server.faults), len(server.faults))
        name = left.pop()
        counts[name] += 1
        print(f"fault: {name}", file=sys.stderr)
        server.faults[name]()


def train(folder: Path, url: str, steps: int) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Train in a process of its own; return its exit status, its result and the lines of its log."""
    folder.mkdir(parents=True)
    (folder / "prompts.txt").write_text(PROMPTS)
    (folder / "run.yaml").write_text(json.dumps(manifest(url, steps)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            [*PROGRAM, "train", "run.yaml"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
        )
    metrics = folder / "runs" / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    result = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return done.returncode, result, [line for line in lines if "loss" in line]


def differences(first: Path, second: Path) -> dict[str, dict[str, float]]:
    """Per metric after training, the mean paired difference of the videos and the half width of its 95 % interval."""
    values = [
        json.loads((folder / "runs/run/evaluation-after.json").read_text())["values"] for folder in (first, second)
    ]
    found = {}
    for name in values[0]:
        pairs = [
            b - a for a, b in zip(values[0][name], values[1][name], strict=True) if a is not None and b is not None
        ]
        spread = statistics.stdev(pairs) if len(pairs) > 1 else 0.0
        found[name] = {"mean": statistics.fmean(pairs), "half_width": 1.96 * spread / len(pairs) ** 0.5}
    return found


def soak(folder: Path, minutes: float, every: float, quick: bool) -> dict[str, Any]:
    """Train with and without faults."""
    server = Server(folder)
    done, counts = threading.Event(), Counter[str]()
    try:
        steps = 5
        if not quick:
            _, _, lines = train(folder / "calibration", server.proxy.url, 6)
            per_step = statistics.median(line["seconds/rollout_batch"] for line in lines[1:])
            steps = max(8, round(minutes * 60 / per_step))
        _, _, calm = train(folder / "calm", server.proxy.url, steps)
        thread = threading.Thread(target=disturb, args=(server, every, done, counts))
        thread.start()
        start = time.monotonic()
        status, _, rough = train(folder / "rough", server.proxy.url, steps)
        seconds = time.monotonic() - start
        done.set()
        thread.join()
        healthy = httpx.get(f"http://127.0.0.1:{server.port}/healthz", timeout=30).status_code == 200
    finally:
        done.set()
        server.stop()
    same = [
        all(one.get(key) == other.get(key) for key in ("reward", "loss"))
        for one, other in zip(calm, rough, strict=False)
    ]
    return {
        "steps": steps,
        "finished": status == 0 and len(rough) == len(calm) == steps,
        "seconds": seconds,
        "faults": dict(counts),
        "same_steps": sum(same),
        "masked_samples": sum(line.get("masked_samples", 0.0) for line in rough),
        "seconds_waiting": sum(line["seconds/waiting"] for line in rough),
        "evaluation_difference": differences(folder / "calm", folder / "rough") if status == 0 else None,
        "server_is_healthy": healthy,
    }


def main() -> int:
    """Run, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("?")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the disturbed run without its faults")
    parser.add_argument("--every", type=float, default=20.0, help="mean seconds between faults")
    parser.add_argument("--quick", action="store_true", help="5 steps, a fault every 3 seconds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), args.minutes, 3.0 if args.quick else args.every, args.quick)
    print(json.dumps(found))
    differs = found["evaluation_difference"]
    within = differs is not None and all(abs(d["mean"]) <= max(d["half_width"], 1e-12) for d in differs.values())
    return 0 if found["finished"] and within else 1


if __name__ == "__main__":
    sys.exit(main())
