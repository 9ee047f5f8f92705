"""Optimiser steps of the recipes of the tiny world, with few videos."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tiny_runs import manifest_of
from transformers import TrainerCallback

from devices.measures import at_most, peak_gib, reset_peak, synchronize
from worldr1_train import FlowGRPOTrainer

FIRST_STEP = {"tiny": "loss", "tiny-flow-grpo": "grad_norm"}
"""What is compared of a recipe. Flow-GRPO's loss is about 0 at first: the ratios are 1, and the advantages of a group
sum to 0."""


def overrides(recipe: str, device: str, precision: str, recompute: bool, quick: bool) -> list[str]:
    """What is changed in a recipe: few videos and steps, and one type for weights and arithmetic."""
    prompts = 2 if quick else 4
    sizes = ("prompts_per_rollout_batch", "groups_per_rollout", "micro_batch_size")
    return [
        *("train.evaluation=null", "train.optimiser={learning_rate: 1.0e-4}", "train.samples.num_videos=0"),
        *(f"train.{size}={prompts}" for size in sizes),
        f"train.max_steps={2 if quick else 4}",
        *(["train.group_size=4"] if quick and recipe == "tiny-flow-grpo" else []),
        *(["sampler.num_inference_steps=4"] if quick else []),
        *(f"device={device}", f"train.precision={precision}", f"backbone.dtype={precision}"),
        f"train.gradient_checkpointing={str(recompute).lower()}",
    ]


def train_few_steps(recipe: str, device: str, precision: str, recompute: bool, quick: bool) -> dict[str, Any]:
    """Seconds of a step, loss and gradient norm of the first one, and memory."""
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize(device)
            ends.append(time.perf_counter())

    changes = overrides(recipe, device, precision, recompute, quick)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        trainer = FlowGRPOTrainer.from_manifest(manifest_of(recipe), output_dir=Path(folder) / "run", overrides=changes)
        trainer.add_callback(Clock())
        reset_peak(device)
        trainer.train()
        peak = peak_gib(device)
    first = next(entry for entry in trainer.state.log_history if "grad_norm" in entry)
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    return {"seconds": seconds, "peak_gib": peak, "loss": first["loss"], "grad_norm": first["grad_norm"]}


def train(device: str, quick: bool) -> dict[str, Any]:
    """Optimiser steps of both recipes; float32 on both devices, and on the device also what its options change."""
    found, bars = {}, {}
    for recipe, compared in FIRST_STEP.items():
        kinds = {"cpu": ("cpu", "float32", False), "device": (device, "float32", False)}
        if not quick:
            kinds |= {"device_recompute": (device, "float32", True), "device_bfloat16": (device, "bfloat16", False)}
        rows = {name: train_few_steps(recipe, *kind, quick) for name, kind in kinds.items()}
        cpu = rows["cpu"]
        speedup = {name: cpu["seconds"] / row["seconds"] for name, row in rows.items() if name != "cpu"}
        found[recipe] = {**rows, "speedup": speedup}
        for name in [name for name, kind in kinds.items() if kind[1] == "float32" and name != "cpu"]:
            apart = abs(rows[name][compared] - cpu[compared]) / abs(cpu[compared])
            bars[f"{recipe}_{name}_{compared}"] = at_most(apart, 0.05)
    return {**found, "bars": bars}
