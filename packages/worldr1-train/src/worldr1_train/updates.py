"""Data for the updates of one rollout batch, divided into micro-batches; checkpoints contain it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worldr1_core.backbone import Backbone
from worldr1_core.clip import Clip
from worldr1_core.objective import UpdateBatch
from worldr1_core.policy_step import DenoiserCall, PolicyStep, SchedulePoint
from worldr1_core.seeding import derive_seed, generator
from worldr1_train.clip_state import as_dict, pack_clip, unpack_clip


@dataclass(slots=True)
class MicroBatch:
    """The same item of several videos of a chunk.

    Attributes:
        chunk: Index of the chunk, whose videos were sampled together.
        item: Number of the item.
        rows: Indices of the videos within the chunk.
        samples: Indices of the same videos among the samples of this process.
        seed: Seed of the random numbers of the micro-batch.
        data: Result of `Objective.prepare` for the micro-batch.
    """

    chunk: int
    item: int
    rows: tuple[int, ...]
    samples: tuple[int, ...]
    seed: int = 0
    data: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class UpdateBuffer:
    """Data for one objective's updates of a rollout batch, on one process.

    Attributes:
        steps: Recorded steps, chunk by chunk.
        latents: Final latents of every chunk in the pipeline's layout; empty if the objective does not use them.
        micro_batches: Micro-batches in the order of the updates.
        advantages: `(V,)` for the samples of this process, or `(V, h, w)` with spatial credit.
        valid: `(V,)` bool: samples that take part in the loss.
        num_valid_items: Number of valid items in each optimiser step of the rollout batch, over all processes.
        clips: The samples as clips; empty if the objective does not use them.
    """

    steps: list[PolicyStep]
    latents: list[Tensor]
    micro_batches: list[MicroBatch]
    advantages: Tensor
    valid: Tensor
    num_valid_items: list[int]
    clips: list[Clip] = field(default_factory=list)

    def batch(self, index: int, backbone: Backbone) -> UpdateBatch:
        """Return micro-batch `index` in the form that objectives take."""
        micro_batch = self.micro_batches[index]
        rows = torch.tensor(micro_batch.samples, device=self.advantages.device)
        num_steps = _num_steps(len(self.steps), len(self.valid), self.steps[0].batch_size)

        def select(step: int) -> PolicyStep:
            return backbone.select_step(self.steps[micro_batch.chunk * num_steps + step], micro_batch.rows)

        latents = self.latents[micro_batch.chunk][list(micro_batch.rows)] if self.latents else torch.empty(0)
        return UpdateBatch(
            item=micro_batch.item,
            num_steps=num_steps,
            select=select,
            latents=latents,
            advantages=self.advantages[rows],
            valid=self.valid[rows],
            clips=[self.clips[sample] for sample in micro_batch.samples] if self.clips else [],
            data=micro_batch.data,
            generator=torch.Generator().manual_seed(micro_batch.seed),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the buffer as plain containers and tensors, which `torch.load(weights_only=True)` can read."""
        return {
            "steps": [_pack_step(step) for step in self.steps],
            "latents": list(self.latents),
            "micro_batches": [as_dict(batch) for batch in self.micro_batches],
            "advantages": self.advantages,
            "valid": self.valid,
            "num_valid_items": list(self.num_valid_items),
            "clips": [pack_clip(clip) for clip in self.clips],
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> UpdateBuffer:
        """Restore a buffer from its `state_dict`, on a device."""
        moved = _move(state, device)
        return cls(
            steps=[_unpack_step(step) for step in moved["steps"]],
            latents=list(moved.get("latents", [])),
            micro_batches=[_unpack_micro_batch(batch, moved) for batch in moved["micro_batches"]],
            advantages=moved["advantages"],
            valid=moved["valid"],
            num_valid_items=list(moved.get("num_valid_items", moved.get("num_valid_pairs", ()))),
            clips=[unpack_clip(clip) for clip in state.get("clips", ())],  # videos stay on the CPU
        )


def plan_micro_batches(
    num_chunks: int,
    chunk_size: int,
    num_items: int,
    batch_size: int,
    seed: int,
    rollout_batch: int,
    first_chunk: int,
    unit: int = 1,
) -> list[MicroBatch]:
    """Divide the items of a process into micro-batches, in a random order.

    All videos of a micro-batch have the same item: (video, timestep) pairs share their timestep, so the denoiser is
    called as in the rollout. Micro-batches are taken from the chunks in turn. If `updates_per_rollout_batch` divides
    the number of micro-batches of a chunk, every optimiser step therefore uses equally many from each chunk, and the
    same pairs for any number of processes.

    Args:
        num_chunks: Chunks of this process; the samples of a chunk were recorded together.
        chunk_size: Samples per chunk, a multiple of `batch_size`.
        num_items: Items per video.
        batch_size: Items per micro-batch, b.
        seed: Seed of the run.
        rollout_batch: Number of the rollout batch.
        first_chunk: Number of this process's first chunk among the chunks of all processes.
        unit: Consecutive samples that stay together, a divisor of `chunk_size`.
    """
    shuffled = []
    for chunk in range(num_chunks):
        random = generator(seed, "micro-batches", rollout_batch, first_chunk + chunk)
        batches = []
        for item in range(num_items):
            units = torch.randperm(chunk_size // unit, generator=random).tolist()
            order = [number * unit + sample for number in units for sample in range(unit)]
            for start in range(0, chunk_size, batch_size):
                rows = tuple(order[start : start + batch_size])
                samples = tuple(chunk * chunk_size + row for row in rows)
                first = (first_chunk + chunk) * chunk_size + rows[0]
                item_seed = derive_seed(seed, "items", rollout_batch, item, first)
                batches.append(MicroBatch(chunk, item, rows, samples, item_seed))
        shuffled.append([batches[i] for i in torch.randperm(len(batches), generator=random).tolist()])
    return [batch for turn in zip(*shuffled, strict=True) for batch in turn]


def _num_steps(num_recorded: int, num_samples: int, chunk_size: int) -> int:
    """Number of recorded steps per video."""
    return num_recorded // (num_samples // chunk_size)


def _pack_step(step: PolicyStep) -> dict[str, Any]:
    return {**as_dict(step), "point": as_dict(step.point), "calls": [as_dict(call) for call in step.calls]}


def _unpack_micro_batch(packed: dict[str, Any], buffer: dict[str, Any]) -> MicroBatch:
    fields_ = {**packed, "rows": tuple(packed["rows"]), "samples": tuple(packed["samples"])}
    if "step" in fields_:  # format of versions before objectives became plugins
        chunk_size = len(buffer["steps"][0]["sample"])
        num_steps = _num_steps(len(buffer["steps"]), len(buffer["valid"]), chunk_size)
        fields_["chunk"], fields_["item"] = divmod(fields_.pop("step"), num_steps)
        old = {name: fields_.pop(name) for name in ("old_log_prob", "reference_mean")}
        fields_["data"] = {name: value for name, value in old.items() if value is not None}
    return MicroBatch(**fields_)


_RENAMED_POINT_FIELDS = {"level": "noise_level", "second_level": "first_step_level"}
"""Old key -> current key, for checkpoints of earlier versions."""


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
