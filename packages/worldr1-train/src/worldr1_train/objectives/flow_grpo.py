"""The objective `flow-grpo`: a clipped policy gradient on the stochastic steps of the sampler's window.

Flow-GRPO (arXiv 2505.05470) as used in World-R1 (paper, section 3), with two options from later work:

- `rectification`: Flash-GRPO (He et al., 2026, arXiv 2605.15980). The gradient of a step's log-density with respect to
  the model's output is noise * (d mean / d output) / std. Its scale differs strongly between the steps of a schedule.
  The loss is divided by this scale.
- `ratio_normalisation`: GRPO-Guard (Wang et al., 2025, arXiv 2510.22319). If the mean of a step shifts by d, its
  log-ratio is noise * d / std - d^2 / (2 std^2). Its mean is below 0, and its spread depends on the std of the step.
  The normalised log-ratio is noise * d, whose mean is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from worldr1_core.objective import Policy, RolloutPlan, UpdateBatch
from worldr1_core.policy import PolicyScheduler, PolicyStep, Transition
from worldr1_train.advantages import clipped_surrogate
from worldr1_train.objective_options import FlowGRPOOptions
from worldr1_train.objectives.advantage_objective import AdvantageObjective


class FlowGRPOObjective(AdvantageObjective):
    """Clipped surrogate loss on the (video, timestep) pairs of the window, plus the KL divergence to the reference."""

    Config: ClassVar[type[FlowGRPOOptions]] = FlowGRPOOptions
    plan: ClassVar[RolloutPlan] = RolloutPlan(steps="window")
    config: FlowGRPOOptions

    def num_items(self, num_steps: int) -> int:
        """See `Objective.num_items`: one item per stochastic step."""
        return num_steps

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Compute old log-densities and reference means, on the same micro-batches as the update.

        With one update per rollout batch, the log-density of the update itself is the old one.
        """
        data: list[dict[str, Tensor]] = [{} for _ in batches]
        if policy.updates_per_rollout > 1:
            for batch, found in zip(batches, data, strict=True):
                step = batch.step(batch.item)
                transition = _transition(step, policy)
                found["old_log_prob"] = self._log_prob(transition, step.next_sample)
                if self.config.ratio_normalisation:
                    found["old_mean"] = transition.mean
        if self.config.rectification:
            weights = rectification_weights(policy.scheduler, normalised=self.config.ratio_normalisation)
            for found in data:
                found["step_weights"] = torch.tensor(weights)
        if self.config.kl > 0:
            with policy.reference():
                for batch, found in zip(batches, data, strict=True):
                    found["reference_mean"] = _transition(batch.step(batch.item), policy).mean
        return data

    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the clipped surrogate plus the KL term of every pair, `(b,)`."""
        step = batch.step(batch.item)
        transition = _transition(step, policy)
        log_prob = self._log_prob(transition, step.next_sample)
        whole = log_prob.detach() if log_prob.ndim == 1 else transition.log_prob(step.next_sample).detach()
        old = batch.data.get("old_log_prob", log_prob.detach())
        high = self.config.clip if self.config.clip_high is None else self.config.clip_high
        if self.config.ratio_normalisation:
            log_prob = self._normalise(log_prob - old, transition, batch.data.get("old_mean"))
            old = torch.zeros_like(old)
        surrogate, ratio = clipped_surrogate(log_prob, old, batch.advantages, clip_low=self.config.clip, clip_high=high)
        per_pair = surrogate.flatten(1).mean(1) if surrogate.ndim > 1 else surrogate
        if "step_weights" in batch.data:
            per_pair = float(batch.data["step_weights"][step.point.index]) * per_pair
        if "reference_mean" in batch.data:
            kl = transition.kl(Transition(batch.data["reference_mean"], transition.std))
            per_pair = per_pair + self.config.kl * kl
            policy.note("kl", kl.detach(), batch.valid)
        self._note_ratios(batch, policy, ratio.detach() - 1, whole - step.log_prob, high)
        return per_pair

    def _normalise(self, log_ratio: Tensor, transition: Transition, old_mean: Tensor | None) -> Tensor:
        """Return the log-ratio without its bias, multiplied by the std of the step."""
        old = Transition(transition.mean.detach() if old_mean is None else old_mean, transition.std)
        bias = transition.kl_map(old) if log_ratio.ndim > 1 else transition.kl(old)
        return (log_ratio + bias) * transition.std

    def _log_prob(self, transition: Transition, sample: Tensor) -> Tensor:
        return transition.log_prob_map(sample) if self.config.credit == "spatial" else transition.log_prob(sample)

    def _note_ratios(self, batch: UpdateBatch, policy: Policy, deviation: Tensor, drift: Tensor, high: float) -> None:
        """Log the deviation of the ratio from 1: against the old policy, and against the density of the rollout."""
        clipped = (deviation < -self.config.clip) | (deviation > high)
        policy.note("ratio/max_deviation", deviation.abs(), batch.valid)
        policy.note("ratio/rollout_max_deviation", torch.expm1(drift).abs(), batch.valid)
        policy.note("clip_ratio/region_mean", clipped.float(), batch.valid)


def _transition(step: PolicyStep, policy: Policy) -> Transition:
    """Return the transition density of recorded steps under the current model."""
    return policy.scheduler.transition(step.point, step.sample, policy.predict(step))


def rectification_weights(scheduler: PolicyScheduler, *, normalised: bool) -> list[float]:
    """Return the inverse scale of the gradient of the log-ratio with respect to the model's output, for every step.

    Args:
        scheduler: Policy scheduler with its schedule set.
        normalised: Whether the ratio is normalised; the scale is then not divided by the std of the step.

    Returns:
        One weight per step; 0 for steps that are not stochastic or do not depend on the output. The mean of the other
        weights is 1.
    """
    nothing, one = torch.zeros(1, 1), torch.ones(1, 1)
    weights = []
    for index in range(scheduler.num_steps):
        point = scheduler.point(index)
        transition = scheduler.transition(point, nothing, nothing)
        change = abs(float(scheduler.transition(point, nothing, one).mean - transition.mean))
        std = transition.std
        is_drawn = change > 0 and 0 < std < math.inf
        weights.append((1.0 if normalised else std) / change if is_drawn else 0.0)
    counted = [weight for weight in weights if weight]
    return [weight * len(counted) / sum(counted) for weight in weights]
