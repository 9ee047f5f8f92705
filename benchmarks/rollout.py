"""What do recorded rollouts cost beside the plain diffusers pipeline, and what does branching save?

    python benchmarks/rollout.py --quick      # under a minute
    python benchmarks/rollout.py              # more repeats

The model is a Wan of the tiny world's size with random weights, on one core. `overhead` is the CPU time of a rollout
with a recorded window of 2 over that of the plain pipeline from the same embeddings and latents: both are run in turn,
in alternating order, and the median of the ratios of neighbours is taken, since what else the machine does changes the
CPU time of both alike. `interval` holds the median of such ratios in 95 of 100 runs. `branching` is the CPU
time of a group of 8 with 50 steps and a window of 2 that begins at `window_start`, over that of 8 rollouts one by one;
`samples` is the share of denoised samples that is left, which is what a model that fills its device would take. A
table goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from backbones.tiny_checkpoints import make_wan
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_backbones.wan import WanBackbone
from worldr1_core.noise import InitialNoise
from worldr1_core.policy import PolicyRun
from worldr1_core.rollout import rollout_groups
from worldr1_core.seeding import generator

GROUP, STEPS, WINDOW = 8, 50, 2
TARGET = 1.02


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of one call, and its answer."""
    start = time.process_time()
    answer = call()
    return time.process_time() - start, answer


def make_backbone(folder: str) -> WanBackbone:
    """A Wan of the tiny world's size with random weights, saved and loaded."""
    pipeline = make_wan("2.1")
    pipeline.transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=8,
        attention_head_dim=32,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=128,
        ffn_dim=768,
        num_layers=5,
        rope_max_seq_len=64,
    )
    pipeline.save_pretrained(folder)
    return WanBackbone(path=folder, height=64, width=64, num_frames=9, max_sequence_length=32, flow_shift=3.0)


def measure_overhead(backbone: WanBackbone, repeats: int, batch: int = 1, steps: int = 8) -> dict[str, Any]:
    """Recorded against plain, in turn."""
    conditioning = backbone.encode(["camera push in"] * batch)
    latents = torch.randn(batch, *backbone.geometry.shape, generator=generator(0))
    policy = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    pipeline, own = backbone.pipeline, backbone.pipeline.scheduler
    recorded_steps: list[int] = []

    def plain() -> None:
        pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        pipeline(
            **conditioning.tensors,
            **backbone.call_options(),
            latents=latents,
            num_inference_steps=steps,
            output_type="latent",
            return_dict=False,
        )
        pipeline.scheduler = own

    def recorded() -> None:
        generators = [generator(0, row) for row in range(batch)]
        run = PolicyRun(window=(3, 3 + WINDOW), generators=generators, record=True)
        rollout = backbone.sample(conditioning, latents, num_inference_steps=steps, scheduler=policy, run=run)
        recorded_steps.append(len(rollout.steps))

    plain(), recorded()
    ratios, plain_seconds = [], []
    for repeat in range(repeats):
        first, second = (plain, recorded) if repeat % 2 == 0 else (recorded, plain)
        seconds = {call: timed(call)[0] for call in (first, second)}
        ratios.append(seconds[recorded] / seconds[plain])
        plain_seconds.append(seconds[plain])
    assert set(recorded_steps) == {WINDOW}
    ratios.sort()
    rank = max(0, int(repeats / 2 - 0.98 * repeats**0.5))  # order statistics around the median, binomial
    return {
        "overhead": statistics.median(ratios),
        "interval": [ratios[rank], ratios[-1 - rank]],
        "plain_seconds": statistics.median(plain_seconds),
        "repeats": repeats,
    }


def measure_branching(backbone: WanBackbone, window_start: int, repeats: int) -> dict[str, Any]:
    """A group that branches against as many rollouts from the beginning."""
    conditioning = backbone.encode(["camera push in"])
    noise = InitialNoise(torch.randn(backbone.geometry.shape, generator=generator(0)))
    policy = FlowSDESampler().make_scheduler(backbone.base_scheduler)
    window = (window_start, window_start + WINDOW)

    def branch() -> torch.Tensor:
        generators = [generator(0, row) for row in range(GROUP)]
        return rollout_groups(
            backbone,
            policy,
            conditioning,
            [noise],
            num_inference_steps=STEPS,
            window=window,
            group_size=GROUP,
            generators=generators,
        ).latents

    def one_by_one() -> torch.Tensor:
        made = []
        for row in range(GROUP):
            run = PolicyRun(window=window, generators=[generator(0, row)], record=True)
            rollout = backbone.sample(
                conditioning, noise.latents[None], num_inference_steps=STEPS, scheduler=policy, run=run
            )
            made.append(rollout.latents)
        return torch.cat(made)

    runs = [[timed(branch), timed(one_by_one)] for _ in range(repeats)]
    (_, branched), (_, separate) = runs[0]
    times = [[seconds for seconds, _ in run] for run in runs]
    group, single = (min(column) for column in zip(*times, strict=True))
    return {
        "window_start": window_start,
        "branching": group / single,
        "samples": (window_start + GROUP * (STEPS - window_start)) / (GROUP * STEPS),
        "group_seconds": group,
        "separate_seconds": single,
        "max_difference": float((branched - separate).abs().max()),
    }


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats: under a minute")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        backbone = make_backbone(folder)
        overhead = measure_overhead(backbone, repeats=30 if args.quick else 200)
        # 12 is the mean begin of a random window in the first half of the schedule, 24 its last.
        starts = (12,) if args.quick else (0, 12, 24)
        branching = [measure_branching(backbone, start, repeats=1 if args.quick else 3) for start in starts]
    low, high = overhead["interval"]
    print(
        f"recording {overhead['overhead']:.4f} ({low:.4f} to {high:.4f}) of the plain pipeline, allowed {TARGET}",
        file=sys.stderr,
    )
    for row in branching:
        print(
            f"window at {row['window_start']:2}: a group of {GROUP} costs {row['branching']:.2f} of {GROUP} rollouts, "
            f"samples {row['samples']:.2f}",
            file=sys.stderr,
        )
    print(json.dumps({**overhead, "target": TARGET, "ok": overhead["overhead"] <= TARGET, "branching": branching}))


if __name__ == "__main__":
    main()
