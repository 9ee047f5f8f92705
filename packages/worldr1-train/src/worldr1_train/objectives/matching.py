"""Shared parts of the objectives that train on finished videos with noise added at random levels.

They need only videos and prompts, but no sampling trajectories or densities, so any sampler can be used. An item is a
video at one step of the schedule. The schedule is divided into as many parts as a video has items, and a micro-batch
draws its step from the part of its item, so that each video is used at distinct steps.

With classifier-free guidance, the guided model is trained, and it is also the model that samples. The papers train and
sample without guidance; a guidance scale of 1 halves the number of denoiser calls.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_core.objective import Policy, UpdateBatch
from worldr1_train.noising import NoisedLatents, draw_noised
from worldr1_train.objective_options import AdvantageConfig
from worldr1_train.objectives.advantage_objective import AdvantageObjective


class MatchingConfig(AdvantageConfig):
    """Options of every matching objective."""

    timesteps: int = Field(4, ge=1, le=1000, description="Noise levels per video, each at a different step.")
    kl: float = Field(
        1e-4,
        ge=0,
        le=1e6,
        description="Weight of the mean squared distance between the outputs of the model and of the model before "
        "training.",
    )


class MatchingObjective(AdvantageObjective):
    """Base class of objectives on noised videos; subclasses implement `prepare` and `loss`."""

    Config = MatchingConfig
    config: MatchingConfig

    def num_items(self, num_steps: int) -> int:
        """See `Objective.num_items`: one item per noise level."""
        if self.config.timesteps > num_steps:
            raise UserError(
                f"timesteps ({self.config.timesteps}) exceeds the {num_steps} steps of the sampler "
                "(num_inference_steps). Lower it, or sample with more steps."
            )
        return self.config.timesteps

    def noised(self, batch: UpdateBatch, policy: Policy) -> NoisedLatents:
        """Add noise to the videos of a micro-batch; step and noise are the same in `prepare` and in `loss`."""
        assert batch.generator is not None, "the trainer gives every micro-batch random numbers"
        random = torch.Generator().manual_seed(batch.generator.initial_seed())  # every call returns the same noise
        begin, end = (part * batch.num_steps // self.config.timesteps for part in (batch.item, batch.item + 1))
        return draw_noised(policy.scheduler, batch, (begin, end), random)

    def predict(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the model's output on `noised`, with the current weights."""
        noised = self.noised(batch, policy)
        return policy.predict(noised.step, noised.sample)

    def add_reference(self, data: list[dict[str, Tensor]], batches: list[UpdateBatch], policy: Policy) -> None:
        """Add the output of the model before training to the prepared data, if `kl` is above 0."""
        if self.config.kl == 0:
            return
        with policy.reference():
            for batch, found in zip(batches, data, strict=True):
                found["reference_output"] = self.predict(batch, policy)

    def kl_term(self, output: Tensor, batch: UpdateBatch, policy: Policy) -> Tensor | float:
        """Return the weighted distance to the model before training, `(b,)`; 0 if `kl` is 0."""
        if self.config.kl == 0:
            return 0.0
        distance = mean_square(output - batch.data["reference_output"])
        policy.note("kl", distance.detach(), batch.valid)
        return self.config.kl * distance

    def per_advantage(self, squares: Tensor) -> Tensor:
        """Average `(b, ..., h, w)` to the shape of the advantages: `(b,)`, or `(b, h, w)` with spatial credit."""
        return squares.flatten(1, -3).mean(1) if self.config.credit == "spatial" else squares.flatten(1).mean(1)


def mean_square(difference: Tensor) -> Tensor:
    """Return the mean square of `(b, ...)` per video, `(b,)`."""
    return difference.square().flatten(1).mean(1)


def mean_places(values: Tensor) -> Tensor:
    """Average `(b, h, w)` over spatial positions; return `(b,)` unchanged."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values
