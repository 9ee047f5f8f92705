"""What does it cost to score in another process? Throughput beside scoring in this one, and the cost of a large body.

    python benchmarks/serving.py --quick            # about a minute
    python benchmarks/serving.py                    # 200 requests of 16x128x128 clips

A worker of `worldr1 serve` and this process score the same clips with the same rewards and threads, in turn, several
times. `ratio` is the throughput of the worker over that of this process, the median of the ratios of neighbours, since
what else the machine does slows both alike. Requests have one clip each and are sent by many threads at once; `lost`
counts those without a score, `different` those whose score is another. `encode_seconds` and `decode_seconds` are the
best of several runs for one clip of 81x480x832, of 8 bits as from a file and of floats as from a model. A table goes to
stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.scoring import ScoringEngine
from worldr1_core.video import Video
from worldr1_rewards import Scorer
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.requests import decode_clips, encode_request, parse_request

PROMPT = "Camera push in. A room with boxes."
LARGE = (81, 3, 480, 832)
NUM_CLIENTS = 32


def make_clips(count: int, size: int) -> list[Clip]:
    """Clips of 16 frames of 8 bits, all different."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (count, 16, 3, size, size), generator=generator)
    return [Clip(Video(own.float() / 255), PROMPT, name=f"clip {index}") for index, own in enumerate(levels)]


def compose(rewards: list[str], *, away: bool) -> ScoringEngine:
    """The same rewards, here or in a worker."""
    placement = {"placement": {"name": "worker"}} if away else {}
    document: dict[str, Any] = {"device": "cpu", "rewards": [{"name": name, **placement} for name in rewards]}
    return Scorer(manifest=document).engine


def score_here(engine: ScoringEngine, clips: list[Clip]) -> tuple[float, list[float]]:
    """Seconds and totals of scoring in one batch after the other."""
    start = time.perf_counter()
    totals = [result.total for result in engine.score(clips, batch_size=8)]
    return time.perf_counter() - start, totals


def score_away(engine: ScoringEngine, clips: list[Clip]) -> tuple[float, list[float]]:
    """Seconds and totals of as many requests as there are clips, by many clients at once."""
    start = time.perf_counter()
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        totals = list(pool.map(lambda clip: next(iter(engine.score([clip]))).total, clips))
    return time.perf_counter() - start, totals


def measure_throughput(rewards: list[str], count: int, repeats: int, size: int) -> dict[str, Any]:
    """Throughput here and away, in turn."""
    clips, here, away = make_clips(count, size), compose(rewards, away=False), compose(rewards, away=True)
    score_here(here, clips[:2])
    score_away(away, clips[:2])
    ratios, own, remote = [], [], []
    lost = different = 0
    for _ in range(repeats):
        seconds, expected = score_here(here, clips)
        other, totals = score_away(away, clips)
        own.append(count / seconds)
        remote.append(count / other)
        ratios.append(seconds / other)
        lost += sum(total != total for total in totals)
        different += sum(total == total and total != wanted for total, wanted in zip(totals, expected, strict=True))
    return {
        "requests": count,
        "rewards": rewards,
        "in_process_clips_per_second": max(own),
        "worker_clips_per_second": max(remote),
        "ratio": statistics.median(ratios),
        "lost": lost,
        "different": different,
    }


def measure_body(frames: Tensor, repeats: int) -> dict[str, float]:
    """Best time to write a request and to read it again, up to the clip."""
    clip = Clip(Video(frames), target=None)
    encode, decode = [], []
    size = 0
    for _ in range(repeats):
        start = time.perf_counter()
        parts = encode_request([clip], ["contrast"])
        encode.append(time.perf_counter() - start)
        body = memoryview(b"".join(parts))
        size = len(body)
        start = time.perf_counter()
        decode_clips(body, parse_request(body, Limits()))
        decode.append(time.perf_counter() - start)
    return {"megabytes": size / 1e6, "encode_seconds": min(encode), "decode_seconds": min(decode)}


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
    print(
        f"{throughput['worker_clips_per_second']:.2f} clips/s in a worker, "
        f"{throughput['in_process_clips_per_second']:.2f} in this process: {throughput['ratio']:.2f}; "
        f"{throughput['lost']} lost, {throughput['different']} different",
        file=sys.stderr,
    )
    for name, body in bodies.items():
        print(
            f"81x480x832 as {name}: {body['megabytes']:.0f} MB, encode {body['encode_seconds']:.3f} s, "
            f"decode {body['decode_seconds']:.3f} s",
            file=sys.stderr,
        )
    print(json.dumps({**throughput, "bodies": bodies}))


if __name__ == "__main__":
    main()
