"""Shared parts of the objectives that compare the model with finished videos at random noise levels.

They need the videos and the prompts alone: no trajectory, no density, and any sampler. An item is a video at one step
of the schedule. The schedule is divided into as many parts as a video has items, and a micro-batch draws its step from
the part of its item, so that no video meets a step twice.

With classifier-free guidance the trained model is the guided one, which is also what samples. The papers train and
sample without: guidance of 1 halves the calls of the denoiser.
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

    timesteps: int = Field(4, ge=1, le=1000, description="Noise levels of every video, each at another step.")
    kl: float = Field(
        1e-4,
        ge=0,
        le=1e6,
        description="Weight of the mean squared distance of the model's output to that of the model before training.",
    )


class MatchingObjective(AdvantageObjective):
    """Base of the objectives on noised videos; a subclass gives `prepare` and `loss`."""

    Config = MatchingConfig
    config: MatchingConfig

    def num_items(self, num_steps: int) -> int:
        """See `Objective.num_items`: one item a noise level."""
        if self.config.timesteps > num_steps:
            raise UserError(
                f"timesteps ({self.config.timesteps}) exceeds the {num_steps} steps of the sampler "
                "(num_inference_steps). Lower it, or sample with more steps."
            )
        return self.config.timesteps

    def noised(self, batch: UpdateBatch, policy: Policy) -> NoisedLatents:
        """The videos of a micro-batch with noise at the level of its step, the same in `prepare` and in `loss`."""
        assert batch.generator is not None, "the trainer gives every micro-batch random numbers"
        random = torch.Generator().manual_seed(batch.generator.initial_seed())  # `prepare` comes here several times
        begin, end = (part * batch.num_steps // self.config.timesteps for part in (batch.item, batch.item + 1))
        return draw_noised(policy.scheduler, batch, (begin, end), random)

    def predict(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """The model's output on `noised`, with the weights as they are."""
        noised = self.noised(batch, policy)
        return policy.predict(noised.step, noised.sample)

    def add_reference(self, data: list[dict[str, Tensor]], batches: list[UpdateBatch], policy: Policy) -> None:
        """Add the output of the model before training to the prepared data, if the loss has a term for it."""
        if self.config.kl == 0:
            return
        with policy.reference():
            for batch, found in zip(batches, data, strict=True):
                found["reference_output"] = self.predict(batch, policy)

    def kl_term(self, output: Tensor, batch: UpdateBatch, policy: Policy) -> Tensor | float:
        """Weighted distance to the model before training, `(b,)`; 0 if the loss has no term for it."""
        if self.config.kl == 0:
            return 0.0
        distance = mean_square(output - batch.data["reference_output"])
        policy.note("kl", distance.detach(), batch.valid)
        return self.config.kl * distance

    def per_advantage(self, squares: Tensor) -> Tensor:
        """Means of `(b, ..., h, w)` in the shape of the advantages: `(b,)`, or `(b, h, w)` for spatial credit."""
        return squares.flatten(1, -3).mean(1) if self.config.credit == "spatial" else squares.flatten(1).mean(1)


def mean_square(difference: Tensor) -> Tensor:
    """Mean square of `(b, ...)`: `(b,)`."""
    return difference.square().flatten(1).mean(1)


def mean_places(values: Tensor) -> Tensor:
    """Mean over places of `(b, h, w)`; `(b,)` as it is."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values
