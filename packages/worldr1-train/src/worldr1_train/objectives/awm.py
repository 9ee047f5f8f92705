"""The objective `awm`: advantage weighted matching, a policy gradient whose log-density is minus the pretraining loss.

Xue et al., "Advantage Weighted Matching: Aligning RL with Pretraining in Diffusion Models", 2025 (arXiv 2509.25050).
Let x0 be a video with noise added at a random level s, v the model's output, and v* the output that predicts x0
exactly:

    log p = -w(s) |v - v*|^2,    ratio = exp(log p - log p_old),    loss = -min(ratio A, clip(ratio) A),

where both log p use the same noise, and |.|^2 is a mean over the latents. For the first update of a rollout batch, the
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
"""Added to squared errors before taking a root, whose slope at 0 is infinite, as in the authors' code."""


class AWMObjective(MatchingObjective):
    """Clipped surrogate loss on (video, noise level) pairs, plus a distance to the model before training."""

    class Config(MatchingConfig):
        """Options of `awm`."""

        kl: float = Field(
            0.005,
            ge=0,
            le=1e6,
            description="Weight of the mean squared distance between the outputs of the model and of the model before "
            "training.",
        )
        clip: float = Field(
            1.0, gt=0, le=1, description="Clipping range around 1 of the probability ratio to the old policy."
        )
        weighting: Literal["uniform", "sigma", "sigma-squared", "huber"] = Field(
            "uniform",
            description="Weight w of the matching error: 1 (`uniform`), the noise share (`sigma`), or its square "
            "(`sigma-squared`). `huber`: the noise share, with error ** `huber_power` / `huber_power` as the error.",
        )
        huber_power: float = Field(0.25, gt=0, le=1, description="Exponent of the error with `huber`.")

    plan: ClassVar[RolloutPlan] = RolloutPlan(steps="all", policy="current", scored=True)
    config: Config

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Compute old log-densities, and outputs of the model before training if `kl` is above 0.

        With one update per rollout batch, the log-density of the update itself is the old one.
        """
        data: list[dict[str, Tensor]] = [{} for _ in batches]
        if policy.updates_per_rollout > 1:
            for batch, found in zip(batches, data, strict=True):
                noised = self.noised(batch, policy)
                found["old_log_prob"] = self._log_prob(policy.predict(noised.step, noised.sample), noised)
        self.add_reference(data, list(batches), policy)
        return data

    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the loss of every pair, `(b,)`."""
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
        """Return minus the weighted matching error, in the shape of the advantages."""
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
