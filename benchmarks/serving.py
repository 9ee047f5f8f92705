"""What does it cost to score in another process? Throughput and latency beside scoring in this one, and large bodies.

    python benchmarks/serving.py --quick            # less than a minute
    python benchmarks/serving.py                    # 200 requests of 16x128x128 clips at once

`worldr1 serve`, a server of the kind that many training repositories have (pickle, JPEG frames; see
`pickle_jpeg_server.py`), and this process score the same clips with the same rewards and one thread each, in turn,
several times. `ratio` is the throughput of a server over that of this process in batches of 8, the median over the
repeats, since what else the machine does slows all alike. All requests are sent at once and have one clip each. `lost`
counts those without a score, `different` those whose score is another, and `scored_twice` the clips that the server
scored beyond one each. `cpu_ratio` is the CPU time that this process takes for the clips over that of the server's
worker, which depends little on other jobs of the machine. `peak_mib` are the peaks of memory of server and worker.

`encode_seconds` and `decode_seconds` are the best of several runs for one clip of 81x480x832, of 8 bits as from a file
and of floats as from a model; their CPU time is that of all threads. `large_request` is that clip, of bytes, scored by
`contrast` at the server, with the CPU time that each process spent on it beside that of scoring it in this process. A
table goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import torch
from pickle_jpeg_server import PickleJpegServer
from prometheus_client.parser import text_string_to_metric_families
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.scoring import ScoringEngine
from worldr1_core.video import Video
from worldr1_rewards import Scorer
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.requests import decode_clips, encode_request, parse_request

PROMPT = "Camera push in. A room with boxes."
LARGE = (81, 3, 480, 832)


def make_clips(count: int, size: int) -> list[Clip]:
    """Clips of 16 frames of 8 bits, all different."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (count, 16, 3, size, size), generator=generator)
    return [Clip(Video(own.float() / 255), PROMPT, name=f"clip {index}") for index, own in enumerate(levels)]


class RewardServer:
    """`worldr1 serve` on the loopback interface, with one worker.

    Args:
        rewards: Rewards to serve.
    """

    def __init__(self, rewards: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        manifest = Path(self._folder.name) / "rewards.yaml"
        manifest.write_text(
            json.dumps({"version": 1, "device": "cpu", "rewards": [{"name": name} for name in rewards]})
        )
        program = "from worldr1_core.cli import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, "--log-level", "warning", "serve", str(manifest), "--port", "0"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    @property
    def processes(self) -> dict[str, int]:
        """Process ids of the server and of its worker."""
        children = [path.read_text() for path in Path(f"/proc/{self._process.pid}/task").glob("*/children")]
        return {"server": self._process.pid, "worker": int("".join(children).split()[0])}

    def num_scored(self) -> int:
        """Clips that were scored so far, by the metrics of the server."""
        text = httpx.get(f"{self.url}/metrics").text
        (clips,) = (family for family in text_string_to_metric_families(text) if family.name == "worldr1_clips")
        return round(clips.samples[0].value)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """Peak of the resident memory of a process."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def compose(rewards: Sequence[str], url: str | None = None) -> ScoringEngine:
    """The rewards in this process, or at a server."""
    placement = {} if url is None else {"placement": {"name": "endpoint", "url": url}}
    document: dict[str, Any] = {"device": "cpu", "rewards": [{"name": name, **placement} for name in rewards]}
    return Scorer(manifest=document).engine


@dataclass
class Timings:
    """Measurements of one way to score.

    Attributes:
        seconds: Wall time of each repeat.
        latencies: Time of every request.
        totals: Totals of the clips, of the last repeat.
    """

    seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    def send_at_once(self, score: Callable[[Clip], float], clips: Sequence[Clip]) -> None:
        """Score every clip by a request of its own, all at once."""

        def timed(clip: Clip) -> float:
            total = score(clip)
            self.latencies.append(time.perf_counter() - start)
            return total

        with ThreadPoolExecutor(len(clips)) as pool:
            start = time.perf_counter()
            self.totals = list(pool.map(timed, clips))
            self.seconds.append(time.perf_counter() - start)

    def summary(self, here: Timings) -> dict[str, Any]:
        """Throughput, latency and scores beside those of this process."""
        count = len(self.totals)
        wrong = [abs(total - own) for total, own in zip(self.totals, here.totals, strict=True) if total == total]
        latencies = statistics.quantiles(self.latencies, n=20)
        return {
            "clips_per_second": count / min(self.seconds),
            "ratio": statistics.median(own / other for own, other in zip(here.seconds, self.seconds, strict=True)),
            "latency_median_seconds": latencies[9],
            "latency_95_seconds": latencies[18],
            "lost": count - len(wrong),
            "different": sum(difference > 0 for difference in wrong),
            "largest_difference": max(wrong, default=0.0),
        }


def measure_throughput(rewards: list[str], count: int, repeats: int, size: int) -> dict[str, Any]:
    """Throughput in this process, at our server and at the other one, in turn."""
    clips, engine = make_clips(count, size), compose(rewards)
    here, ours, peers = Timings(), Timings(), Timings()
    own_cpu = 0.0
    with RewardServer(rewards) as server, PickleJpegServer(rewards) as peer:
        away = compose(rewards, server.url)
        for scorer in (engine, away):
            list(scorer.score(clips[:1]))
        peer.score(clips[0])
        scored_before, cpu_before = server.num_scored(), cpu_seconds(server.processes["worker"])
        for _ in range(repeats):
            start, cpu = time.perf_counter(), time.process_time()
            here.totals = [result.total for result in engine.score(clips, batch_size=8)]
            here.seconds.append(time.perf_counter() - start)
            own_cpu += time.process_time() - cpu
            ours.send_at_once(lambda clip: next(iter(away.score([clip]))).total, clips)
            peers.send_at_once(peer.score, clips)
        worker_cpu = cpu_seconds(server.processes["worker"]) - cpu_before
        return {
            "requests": count,
            "rewards": rewards,
            "in_process_clips_per_second": count / min(here.seconds),
            "server": {
                **ours.summary(here),
                "scored_twice": server.num_scored() - scored_before - repeats * count,
                "cpu_ratio": own_cpu / worker_cpu,
                "peak_mib": {name: peak_mib(pid) for name, pid in server.processes.items()},
            },
            "pickle_jpeg": peers.summary(here),
        }


def measure_body(frames: Tensor, repeats: int) -> dict[str, float]:
    """Best time to write a request and to read it again, up to the clip."""
    clip = Clip(Video(frames), target=None)
    encode, decode = _Best(), _Best()
    size = 0
    for _ in range(repeats):
        with encode:
            parts = encode_request([clip], ["contrast"])
        body = memoryview(b"".join(parts))
        size = len(body)
        with decode:
            clips = decode_clips(body, parse_request(body, Limits()))
        del clips
    return {
        "megabytes": size / 1e6,
        "encode_seconds": encode.wall,
        "decode_seconds": decode.wall,
        "encode_cpu_seconds": encode.cpu,
        "decode_cpu_seconds": decode.cpu,
    }


def measure_large_request(frames: Tensor, repeats: int) -> dict[str, Any]:
    """One large clip scored at a server and in this process: the best of several wall and CPU times."""
    rewards, clip = ["contrast"], Clip(Video(frames), target=None)
    here, client = _Best(), _Best()
    engine = compose(rewards)
    with RewardServer(rewards) as server:
        away = compose(rewards, server.url)
        spent: dict[str, list[float]] = {name: [] for name in server.processes}
        for _ in range(repeats):
            before = {name: cpu_seconds(pid) for name, pid in server.processes.items()}
            with client:
                remote = next(iter(away.score([clip]))).total
            for name, pid in server.processes.items():
                spent[name].append(cpu_seconds(pid) - before[name])
            with here:
                own = next(iter(engine.score([clip]))).total
        peaks = {name: peak_mib(pid) for name, pid in server.processes.items()}
    return {
        "same_score": remote == own,
        "seconds": client.wall,
        "in_process_seconds": here.wall,
        "client_cpu_seconds": client.cpu,
        **{f"{name}_cpu_seconds": min(seconds) for name, seconds in spent.items()},
        "in_process_cpu_seconds": here.cpu,
        "peak_mib": peaks,
    }


class _Best:
    """The smallest wall time and CPU time of the blocks that it surrounds."""

    def __init__(self) -> None:
        self.wall = self.cpu = float("inf")

    def __enter__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        self.wall = min(self.wall, time.perf_counter() - self._start)
        self.cpu = min(self.cpu, time.process_time() - self._cpu)


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests and repeats")
    parser.add_argument("--rewards", default="path-rerender", help="comma-separated names")
    args = parser.parse_args()
    torch.set_num_threads(1)
    count, repeats, size = (16, 1, 64) if args.quick else (200, 3, 128)
    throughput = measure_throughput(args.rewards.split(","), count, repeats, size)
    levels = torch.randint(0, 256, LARGE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).float() / 255
    bodies = {
        "bytes": measure_body(levels, 3 if args.quick else 10),
        "floats": measure_body(levels * 0.999, 3 if args.quick else 10),
    }
    large = measure_large_request(levels, 2 if args.quick else 5)
    print(f"{throughput['in_process_clips_per_second']:.2f} clips/s in this process", file=sys.stderr)
    for name in ("server", "pickle_jpeg"):
        row = throughput[name]
        print(
            f"{name}: {row['clips_per_second']:.2f} clips/s, ratio {row['ratio']:.2f}, latency "
            f"{row['latency_median_seconds']:.2f} s (median), {row['latency_95_seconds']:.2f} s (95 %); "
            f"{row['lost']} lost, {row['different']} different by up to {row['largest_difference']:.3g}",
            file=sys.stderr,
        )
    for name, body in bodies.items():
        print(
            f"81x480x832 as {name}: {body['megabytes']:.0f} MB, encode {body['encode_seconds']:.3f} s, "
            f"decode {body['decode_seconds']:.3f} s; CPU time {body['encode_cpu_seconds']:.3f} and "
            f"{body['decode_cpu_seconds']:.3f} s",
            file=sys.stderr,
        )
    print(
        f"81x480x832 at the server: {'the same' if large['same_score'] else 'ANOTHER'} score after "
        f"{large['seconds']:.2f} s ({large['in_process_seconds']:.2f} s in this process)",
        file=sys.stderr,
    )
    print(json.dumps({**throughput, "bodies": bodies, "large_request": large}))


if __name__ == "__main__":
    main()
