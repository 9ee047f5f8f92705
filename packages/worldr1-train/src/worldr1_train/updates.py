"""What one rollout batch is updated from: (video, timestep) pairs in micro-batches, kept across a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from worldr1_core.policy_step import DenoiserCall, PolicyStep, SchedulePoint
from worldr1_core.seeding import generator


@dataclass(slots=True)
class MicroBatch:
    """Some rows of one recorded step.

    Attributes:
        step: Index of the recorded step.
        rows: Rows of it.
        samples: Their samples among this process's.
        old_log_prob: `(b,)`, or `(b, h, w)` by place, under the policy that sampled, computed as the update computes
            it; `None` where the first update's own value stands for it.
        reference_mean: `(b, ...)` of the reference's density; `None` without a KL term.
    """

    step: int
    rows: tuple[int, ...]
    samples: tuple[int, ...]
    old_log_prob: Tensor | None = None
    reference_mean: Tensor | None = None


@dataclass(slots=True)
class UpdateBuffer:
    """Everything that the updates of one rollout batch need, on one process.

    Attributes:
        steps: Recorded steps.
        micro_batches: In the order of the updates.
        advantages: `(V,)` of this process's samples, or `(V, h, w)` of their places.
        valid: `(V,)` samples that count.
        num_valid_pairs: For every optimiser step of the rollout batch, how many pairs count, over all processes.
    """

    steps: list[PolicyStep]
    micro_batches: list[MicroBatch]
    advantages: Tensor
    valid: Tensor
    num_valid_pairs: list[int]

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, which `torch.load(weights_only=True)` reads."""
        return {
            "steps": [_pack_step(step) for step in self.steps],
            "micro_batches": [_as_dict(batch) for batch in self.micro_batches],
            "advantages": self.advantages,
            "valid": self.valid,
            "num_valid_pairs": list(self.num_valid_pairs),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> UpdateBuffer:
        """The buffer that `state_dict` packed, on a device."""
        moved = _move(state, device)
        return cls(
            steps=[_unpack_step(step) for step in moved["steps"]],
            micro_batches=[
                MicroBatch(**{**batch, "rows": tuple(batch["rows"]), "samples": tuple(batch["samples"])})
                for batch in moved["micro_batches"]
            ],
            advantages=moved["advantages"],
            valid=moved["valid"],
            num_valid_pairs=list(moved["num_valid_pairs"]),
        )


def plan_micro_batches(
    num_chunks: int,
    chunk_size: int,
    num_window_steps: int,
    batch_size: int,
    seed: int,
    rollout_batch: int,
    first_chunk: int,
) -> list[MicroBatch]:
    """Micro-batches over every (video, timestep) pair of a process once, in a random order.

    The pairs of a micro-batch share their timestep, so that the denoiser is called as it was in the rollout. Chunks are
    dealt out in turn: where `updates_per_rollout_batch` divides the micro-batches of a chunk, every optimiser step sees
    as much of each chunk, and the same pairs however many processes share the rollout batch.

    Args:
        num_chunks: Chunks of this process; the samples of a chunk were recorded together.
        chunk_size: Samples of a chunk, a multiple of `batch_size`.
        num_window_steps: W.
        batch_size: b.
        seed: Seed of the run.
        rollout_batch: Number of the rollout_batch.
        first_chunk: Number of its first chunk among those of all processes.
    """
    shuffled = []
    for chunk in range(num_chunks):
        random = generator(seed, "micro-batches", rollout_batch, first_chunk + chunk)
        batches = []
        for window_step in range(num_window_steps):
            order = torch.randperm(chunk_size, generator=random).tolist()
            for start in range(0, chunk_size, batch_size):
                rows = tuple(order[start : start + batch_size])
                samples = tuple(chunk * chunk_size + row for row in rows)
                batches.append(MicroBatch(chunk * num_window_steps + window_step, rows, samples))
        shuffled.append([batches[i] for i in torch.randperm(len(batches), generator=random).tolist()])
    return [batch for turn in zip(*shuffled, strict=True) for batch in turn]


def count_valid_pairs(
    batches: Sequence[MicroBatch], valid: Tensor, accumulation_steps: int, num_iterations: int
) -> Tensor:
    """How many pairs of this process count in every optimiser step of the rollout batch: `(updates,)` int64."""
    counts = [int(valid[list(batch.samples)].sum()) for batch in batches] * num_iterations
    return torch.tensor(counts, dtype=torch.int64).view(-1, accumulation_steps).sum(1)


def _as_dict(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _pack_step(step: PolicyStep) -> dict[str, Any]:
    packed = _as_dict(step)
    return {**packed, "point": _as_dict(step.point), "calls": [_as_dict(call) for call in step.calls]}


_RENAMED_POINT_FIELDS = {"level": "noise_level", "second_level": "first_step_level"}
"""Keys of checkpoints that earlier versions wrote."""


def _unpack_step(packed: dict[str, Any]) -> PolicyStep:
    calls = tuple(DenoiserCall(call["module"], tuple(call["args"]), call["kwargs"]) for call in packed["calls"])
    point = {_RENAMED_POINT_FIELDS.get(name, name): value for name, value in packed["point"].items()}
    return PolicyStep(**{**packed, "point": SchedulePoint(**point), "calls": calls})


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_move(item, device) for item in value)
    return value
