"""Estimate of a run's memory before it starts, and measurement of its peak memory."""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from worldr1_core.objective import Objective
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.policy_model import PolicyModel, local_tensor

GIB = 2**30
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """Lower bound of the memory of one process, in bytes.

    Attributes:
        denoisers: Weights of the denoisers, including an adapter.
        training: Gradients, AdamW's two moments and the moving average of the trained weights, and the copy of the
            initial weights that full fine-tuning keeps for a KL term.
        rollouts: Latents before and after every stochastic step of a rollout batch, and the outputs of the reference
            model for a KL term.
        videos: Decoded videos of the groups that are sampled together, and of those that are scored at the same time.
    """

    denoisers: int
    training: int
    rollouts: int
    videos: int

    @property
    def total(self) -> int:
        """Sum of all parts, in bytes."""
        return self.denoisers + self.training + self.rollouts + self.videos

    def in_gib(self) -> dict[str, float]:
        """Return the parts and their sum (`at_least`) in GiB, rounded, for logging."""
        parts = {**asdict(self), "at_least": self.total}
        return {name: round(value / GIB, 3) for name, value in parts.items()}


def count_memory(model: PolicyModel, args: FlowGRPOConfig, objectives: Sequence[Objective], window: int) -> MemoryNeeds:
    """Estimate the memory of a process, without activations, text encoder, VAE and the models of the rewards.

    Args:
        model: The policy on its device, sharded or not; its backbone gives the sizes of latents and videos.
        args: Training arguments with the sizes of groups and rollout batches.
        objectives: Objectives of the run.
        window: Number of recorded steps per video.
    """
    trained = _bytes(model.trainable().values(), _FLOAT)
    copies = 3 + (args.ema_decay is not None) + model.has_reference_copy
    geometry = model.backbone.geometry
    latent = _FLOAT * math.prod(geometry.shape)
    compares = any(objective.needs_reference and objective.plan.steps == "window" for objective in objectives)
    kept = 2 + compares  # latents before and after a step, and the output of the reference model
    video = _FLOAT * 3 * geometry.video_frames * geometry.video_height * geometry.video_width
    chunks = 1 + args.chunks_ahead if args.async_rewards else 1
    return MemoryNeeds(
        denoisers=_bytes(model.denoisers.parameters()),
        training=copies * trained,
        rollouts=kept * latent * window * args.prompts_per_process * args.num_generations,
        videos=chunks * video * args.groups_per_rollout * args.num_generations,
    )


def available_memory(device: torch.device) -> int | None:
    """Return the total memory of the device in bytes, or `None` if it is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes: allocated tensors on a GPU, resident memory on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _bytes(tensors: Iterable[Tensor], each: int | None = None) -> int:
    parts = [local_tensor(tensor) for tensor in tensors]
    return sum(part.numel() * (part.element_size() if each is None else each) for part in parts)
