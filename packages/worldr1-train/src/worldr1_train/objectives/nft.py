"""The objective `nft`: DiffusionNFT, which contrasts good and bad videos on the forward process.

Zheng et al., "DiffusionNFT: Online Diffusion Reinforcement with Forward Process", 2025 (arXiv 2509.16117), with the
normalisation of the authors' code. For a video x0 of the old policy with advantage A, noise at a random level, the old
policy's output v_old, the trained one's v, and the output v* that would give x0 back,

    v+ = (1 - beta) v_old + beta v,    v- = (1 + beta) v_old - beta v,
    loss = C / beta (r |v+ - v*|^2 + (1 - r) |v- - v*|^2),    r = (1 + A / C) / 2,

where C bounds |A|, so that r lies in [0, 1]. With `weighting: adaptive`, distances are those of the predicted x0, each
over its mean absolute value. At v = v_old and without that weighting, the gradient is A times that of |v - v*|^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.objective import Policy, RolloutPlan, UpdateBatch
from worldr1_train.noising import NoisedLatents
from worldr1_train.objectives.matching import MatchingConfig, MatchingObjective, mean_places, mean_square
from worldr1_train.objectives.old_policy import OldPolicy

LEAST_WEIGHT = 1e-5
"""Bound of the mean absolute distance that adaptive weighting divides by, as in the authors' code."""


class NFTObjective(MatchingObjective):
    """DiffusionNFT on every (video, noise level) pair, plus a distance to the model before training."""

    class Config(MatchingConfig):
        """Options of `nft`."""

        beta: float = Field(
            1.0, gt=0, le=10, description="How far the positive output lies from the old one, towards the trained one."
        )
        weighting: Literal["adaptive", "uniform"] = Field(
            "adaptive",
            description="`adaptive`: distances of the predicted clean latents, each over its mean absolute value; "
            "`uniform`: squared distances of the model's output.",
        )
        old_decay_rate: float = Field(
            0.001,
            ge=0,
            le=1,
            description="Growth, per optimiser step, of the old policy's weight against the trained one when it "
            "follows after a rollout batch.",
        )
        old_decay_max: float = Field(0.5, ge=0, lt=1, description="Bound of that weight.")
        old_decay_start: int = Field(0, ge=0, le=10**7, description="Optimiser steps before it grows from 0.")

    plan: ClassVar[RolloutPlan] = RolloutPlan(steps="all", policy="behaviour", scored=True)
    config: Config

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        self._old = OldPolicy(
            rate=self.config.old_decay_rate, largest=self.config.old_decay_max, first=self.config.old_decay_start
        )

    def start(self, policy: Policy) -> None:
        """See `Objective.start`: the old policy is the trained one."""
        self._old.start(policy)

    def behaviour(self) -> Mapping[str, Tensor] | None:
        """See `Objective.behaviour`: the old policy."""
        return self._old.values or None

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Outputs of the old policy, and of the model before training where the loss compares with it."""
        with policy.with_parameters(self._old.values):
            data = [{"old_output": self.predict(batch, policy)} for batch in batches]
        self.add_reference(data, list(batches), policy)
        return data

    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Loss of every pair `(b,)`."""
        noised, beta, clip = self.noised(batch, policy), self.config.beta, self.config.advantage_clip
        old, output = batch.data["old_output"], policy.predict(noised.step, noised.sample)
        positive = self._distance((1 - beta) * old + beta * output, noised)
        negative = self._distance((1 + beta) * old - beta * output, noised)
        optimality = optimality_probability(batch.advantages, clip)
        contrast = mean_places(optimality * positive + (1 - optimality) * negative)
        policy.note("matching_error", mean_square(output.detach() - noised.target), batch.valid)
        policy.note("old_distance", mean_square(output.detach() - old), batch.valid)
        return clip / beta * contrast + self.kl_term(output, batch, policy)

    def end_update(self, policy: Policy) -> None:
        """See `Objective.end_update`: the old policy follows."""
        self._old.end_update(policy)

    def state_dict(self) -> dict[str, Any]:
        """The old policy."""
        return {"old": self._old.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Objective.load_state_dict`."""
        self._old.load_state_dict(state["old"])

    def _distance(self, output: Tensor, noised: NoisedLatents) -> Tensor:
        """Distance to the target, weighted, in the shape of the advantages."""
        difference = output - noised.target
        if self.config.weighting == "uniform":
            return self.per_advantage(difference.square())
        difference = noised.data_scale * difference
        weight = difference.detach().abs().flatten(1).mean(1).clamp(min=LEAST_WEIGHT)
        return self.per_advantage(difference.square() / weight.view(-1, *[1] * (difference.ndim - 1)))


def optimality_probability(advantages: Tensor, clip: float) -> Tensor:
    """Advantages in [-clip, clip] as probabilities of being a good video, in [0, 1]; 1/2 for an advantage of 0.

    Args:
        advantages: Of any shape.
        clip: C, > 0.
    """
    return torch.clamp(0.5 + advantages / (2 * clip), 0, 1)
