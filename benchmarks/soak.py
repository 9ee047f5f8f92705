"""Does training survive what clusters do? A run whose rewards are at a server that a random fault hits again and again.

    python benchmarks/soak.py --quick                        # about a minute
    python benchmarks/soak.py --minutes 30 --folder soak     # a fault every 20 seconds, and then the undisturbed run

The tiny model is trained twice with the same seed: with a server whose processes are killed and stopped, whose answers
come late, and whose connections are cut in the middle of a body, and with one that is left alone. Retries should lose
nothing, so that both runs are the same: `same_steps` counts the optimiser steps with the same reward and loss,
`masked_samples` the samples that were left out for want of a score, and `evaluation_difference` holds the mean paired
difference of every metric after training, with its 95 % interval where the runs differ. `repeated` counts the requests
that were sent again, by their reason. The last line on stdout is JSON; the exit status is 1 if the disturbed run did
not finish, lost a score, or differs by more than the interval.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
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
from types import TracebackType
from typing import Any, Self

import httpx
from cutting_proxy import CuttingProxy

PROGRAM = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
PROMPTS = (
    "Camera push in. A red box and a blue ball in a green room with checker walls.\n"
    "Camera pan left. A yellow ball in a blue room with striped walls.\n"
    "Camera pull out. A green box in a red room with checker walls.\n"
)
SLOW_SECONDS = 4.0
SERVED = {"mean-gradient": 1.0, "path-rerender": 1.0}
"""Rewards of the server -> weight. The second one takes about half of the time of a step, in which faults hit it."""


def manifest(url: str, steps: int) -> dict[str, Any]:
    """Training of the tiny model; two of its rewards are at the server."""
    placement = {"name": "endpoint", "url": url, "timeout": 120, "patience": 120}
    return {
        "version": 1,
        "seed": 3,
        "device": "cpu",
        "backbone": {"name": "tiny-wan", "guidance_scale": 1.0},
        "noise": {"name": "camera-warp"},
        "sampler": {"name": "flow-sde", "num_inference_steps": 3, "window": 1, "window_stop": 2},
        "rewards": [
            *({"name": name, "weight": weight, "placement": placement} for name, weight in SERVED.items()),
            {"name": "tiny-text-alignment", "weight": 0.5},
        ],
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
                "metrics": ["contrast", "motion", "mean-gradient"],
                "diversity": None,
                "num_shown": 0,
            },
        },
    }


class Server:
    """`worldr1 serve` behind a proxy; it is started again where it was when it has been killed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._manifest = folder / "served.yaml"
        self._manifest.write_text(
            json.dumps({"version": 1, "device": "cpu", "rewards": [{"name": name} for name in SERVED]})
        )
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
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
        print(f"fault: {name}", file=sys.stderr, flush=True)
        server.faults[name]()


def train(folder: Path, url: str, steps: int) -> tuple[int, list[dict[str, Any]]]:
    """Train in a process of its own; return its exit status and the lines of its log."""
    (folder / "prompts.txt").write_text(PROMPTS)
    (folder / "run.yaml").write_text(json.dumps(manifest(url, steps)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            [*PROGRAM, "--log-json", "train", "run.yaml"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,
        )
    metrics = folder / "runs" / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    return done.returncode, [line for line in lines if "loss" in line]


def repeated(folder: Path) -> dict[str, int]:
    """Requests of a run that were sent again, by their reason without addresses and numbers."""
    lines = [json.loads(line) for line in (folder / "log.txt").read_text().splitlines() if line.startswith("{")]
    reasons = [re.sub(r"https?://\S+ ", "", line["reason"]) for line in lines if line["event"] == "asking again"]
    return dict(Counter(re.sub(r"\d+", "…", reason) for reason in reasons))


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
    steps = 12
    if not quick:
        with Server(folder / "calibration") as server:
            _, lines = train(folder / "calibration", server.proxy.url, 6)
        per_step = statistics.median(line["seconds/rollout_batch"] for line in lines[1:])
        steps = max(8, round(minutes * 60 / per_step))
        print(f"{steps} steps of {per_step:.2f} s", file=sys.stderr, flush=True)
    done, counts = threading.Event(), Counter[str]()
    with Server(folder / "rough") as server:
        thread = threading.Thread(target=disturb, args=(server, every, done, counts))
        thread.start()
        start = time.monotonic()
        try:
            status, rough = train(folder / "rough", server.proxy.url, steps)
            seconds = time.monotonic() - start
        finally:
            done.set()
            thread.join()
        healthy = httpx.get(f"http://127.0.0.1:{server.port}/healthz", timeout=30).status_code == 200
    print(f"the disturbed run ended with status {status} after {seconds:.0f} s", file=sys.stderr, flush=True)
    with Server(folder / "calm") as server:
        _, calm = train(folder / "calm", server.proxy.url, steps)
    same = [
        all(one.get(key) == other.get(key) for key in ("reward", "loss"))
        for one, other in zip(calm, rough, strict=False)
    ]
    return {
        "steps": steps,
        "finished": status == 0 and len(rough) == len(calm) == steps,
        "seconds": seconds,
        "faults": dict(counts),
        "repeated": repeated(folder / "rough"),
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
    parser.add_argument("--quick", action="store_true", help="12 steps, a fault every 2 seconds")
    parser.add_argument("--folder", type=Path, help="new folder for runs and logs; by default one that is removed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "soak" if args.folder is None else args.folder
        found = soak(folder, args.minutes, 2.0 if args.quick else args.every, args.quick)
    print(json.dumps(found))
    differs = found["evaluation_difference"]
    within = differs is not None and all(abs(d["mean"]) <= max(d["half_width"], 1e-12) for d in differs.values())
    return 0 if found["finished"] and not found["masked_samples"] and within else 1


if __name__ == "__main__":
    sys.exit(main())
