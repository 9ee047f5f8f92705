"""The objective `nft`: DiffusionNFT, which contrasts good and bad videos on the forward process.

Zheng et al., "DiffusionNFT: Online Diffusion Reinforcement with Forward Process", 2025 (arXiv 2509.16117), with the
normalisation of the authors' code. Let x0 be a video of the old policy with advantage A and noise added at a random
level, v_old the output of the old policy, v that of the trained policy, and v* the output that predicts x0 exactly:

    v+ = (1 - beta) v_old + beta v,    v- = (1 + beta) v_old - beta v,
    loss = C / beta (r |v+ - v*|^2 + (1 - r) |v- - v*|^2),    r = (1 + A / C) / 2,

where C is the bound of |A|, so that r lies in [0, 1]. With `weighting: adaptive`, the distances are those of the
predicted x0, each divided by its mean absolute value. At v = v_old and without this weighting, the gradient is A times
that of |v - v*|^2.
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
"""Lower bound of the mean absolute distance that adaptive weighting divides by, as in the authors' code."""


class NFTObjective(MatchingObjective):
    """DiffusionNFT loss on (video, noise level) pairs, plus a distance to the model before training."""

    class Config(MatchingConfig):
        """Options of `nft`."""

        beta: float = Field(
            1.0,
            gt=0,
            le=10,
            description="Position of the positive output on the line from the old policy's output (0) to the trained "
            "policy's output (1).",
        )
        weighting: Literal["adaptive", "uniform"] = Field(
            "adaptive",
            description="`adaptive`: squared distances of the predicted clean latents, divided by their mean absolute "
            "distance; `uniform`: squared distances of the model's output.",
        )
        old_decay_rate: float = Field(
            0.001,
            ge=0,
            le=1,
            description="Increase per optimiser step of the decay with which the old policy is updated towards the "
            "trained one after each rollout batch. 0 copies the trained policy.",
        )
        old_decay_max: float = Field(0.5, ge=0, lt=1, description="Upper bound of this decay.")
        old_decay_start: int = Field(
            0, ge=0, le=10**7, description="Number of optimiser steps before this decay starts to increase from 0."
        )

    plan: ClassVar[RolloutPlan] = RolloutPlan(steps="all", policy="behaviour", scored=True)
    config: Config

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        self._old = OldPolicy(
            rate=self.config.old_decay_rate, largest=self.config.old_decay_max, first=self.config.old_decay_start
        )

    def start(self, policy: Policy) -> None:
        """See `Objective.start`: the old policy starts as a copy of the trained one."""
        self._old.start(policy)

    def behaviour(self) -> Mapping[str, Tensor] | None:
        """See `Objective.behaviour`: the old policy samples."""
        return self._old.values or None

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Compute outputs of the old policy, and of the model before training if `kl` is above 0."""
        with policy.with_parameters(self._old.values):
            data = [{"old_output": self.predict(batch, policy)} for batch in batches]
        self.add_reference(data, list(batches), policy)
        return data

    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the loss of every pair, `(b,)`."""
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
        """See `Objective.end_update`: updates the old policy after a rollout batch."""
        self._old.end_update(policy)

    def state_dict(self) -> dict[str, Any]:
        """See `Objective.state_dict`: the state of the old policy."""
        return {"old": self._old.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Objective.load_state_dict`."""
        self._old.load_state_dict(state["old"])

    def _distance(self, output: Tensor, noised: NoisedLatents) -> Tensor:
        """Return the weighted distance to the target, in the shape of the advantages."""
        difference = output - noised.target
        if self.config.weighting == "uniform":
            return self.per_advantage(difference.square())
        difference = noised.data_scale * difference
        weight = difference.detach().abs().flatten(1).mean(1).clamp(min=LEAST_WEIGHT)
        return self.per_advantage(difference.square() / weight.view(-1, *[1] * (difference.ndim - 1)))


def optimality_probability(advantages: Tensor, clip: float) -> Tensor:
    """Map advantages in [-clip, clip] to probabilities of being a good video, in [0, 1]; an advantage of 0 to 1/2.

    Args:
        advantages: Advantages of any shape.
        clip: Bound C of the advantages, > 0.
    """
    return torch.clamp(0.5 + advantages / (2 * clip), 0, 1)
