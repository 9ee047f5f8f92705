"""The objective `awm`: advantage weighted matching, a policy gradient with the loss of pretraining as log-density.

Xue et al., "Advantage Weighted Matching: Aligning RL with Pretraining in Diffusion Models", 2025 (arXiv 2509.25050).
For a video x0 with noise at a random level s, the model's output v and the output v* that would give x0 back,

    log p = -w(s) |v - v*|^2,    ratio = exp(log p - log p_old),    loss = -min(ratio A, clip(ratio) A),

where both log p see the same noise, and |.|^2 is a mean over the latents. For the first update of a rollout batch the
gradient is that of A w(s) |v - v*|^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from worldr1_core.objective import Policy, RolloutPlan, UpdateBatch
from worldr1_train.advantages import clipped_surrogate
from worldr1_train.noising import NoisedLatents
from worldr1_train.objectives.matching import MatchingConfig, MatchingObjective, mean_places, mean_square

SMALL = 1e-10
"""Added to squared errors before a root, whose slope at 0 is infinite, as in the authors' code."""


class AWMObjective(MatchingObjective):
    """Clipped surrogate of every (video, noise level) pair, plus a distance to the model before training."""

    class Config(MatchingConfig):
        """Options of `awm`."""

        kl: float = Field(
            0.005,
            ge=0,
            le=1e6,
            description="Weight of the mean squared distance of the model's output to that of the model before "
            "training.",
        )
        clip: float = Field(
            1.0, gt=0, le=1, description="How far the ratio to the policy that sampled may be from 1 to have an effect."
        )
        weighting: Literal["uniform", "sigma", "sigma-squared", "huber"] = Field(
            "uniform",
            description="w of the matching error: 1, the share of noise, or its square. `huber`: the share of noise, "
            "and the power `huber_power` of the error over that power.",
        )
        huber_power: float = Field(0.25, gt=0, le=1, description="Power of `huber`.")

    plan: ClassVar[RolloutPlan] = RolloutPlan(steps="all", policy="current", scored=True)
    config: Config

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Old log-densities, and outputs of the model before training where the loss compares with it.

        With one update per rollout batch, the update's own log-density is the old one.
        """
        data: list[dict[str, Tensor]] = [{} for _ in batches]
        if policy.updates_per_rollout > 1:
            for batch, found in zip(batches, data, strict=True):
                noised = self.noised(batch, policy)
                found["old_log_prob"] = self._log_prob(policy.predict(noised.step, noised.sample), noised)
        self.add_reference(data, list(batches), policy)
        return data

    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Loss of every pair `(b,)`."""
        noised, clip = self.noised(batch, policy), self.config.clip
        output = policy.predict(noised.step, noised.sample)
        log_prob = self._log_prob(output, noised)
        old = batch.data.get("old_log_prob", log_prob.detach())
        surrogate, ratio = clipped_surrogate(log_prob, old, batch.advantages, clip_low=clip, clip_high=clip)
        deviation = (ratio.detach() - 1).abs()
        policy.note("ratio/max_deviation", deviation, batch.valid)
        policy.note("clip_ratio/region_mean", (deviation > clip).float(), batch.valid)
        policy.note("matching_error", mean_square(output.detach() - noised.target), batch.valid)
        return mean_places(surrogate) + self.kl_term(output, batch, policy)

    def _log_prob(self, output: Tensor, noised: NoisedLatents) -> Tensor:
        """Minus the weighted matching error, in the shape of the advantages."""
        error = self.per_advantage((output - noised.target).square())
        share, power = noised.noise_share, self.config.huber_power
        match self.config.weighting:
            case "uniform":
                return -error
            case "sigma":
                return -share * error
            case "sigma-squared":
                return -(share**2) * error
            case "huber":
                return -share / power * ((error + SMALL) ** power - SMALL**power)
