"""Group advantages and the clipped surrogate of Flow-GRPO (arXiv 2505.05470), as pure functions.

A group contains the videos of one prompt. Samples without a reward, and groups with fewer than two rewards, are masked.
The KL term is `worldr1_core.policy.Transition.kl`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

EPSILON = 1e-4
"""Added to standard deviations, as Flow-GRPO and TRL do."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages of the samples of a rollout batch.

    Attributes:
        values: `(N,)` float32, or `(N, h, w)` with a value for every spatial position of the latents; 0 where `valid`
            is false.
        valid: `(N,)` bool: the sample and at least one other sample of its group have a reward.
        group_std: `(P,)` standard deviation of the total reward over the samples of each group that have one; NaN for
            skipped groups.
    """

    values: Tensor
    valid: Tensor
    group_std: Tensor

    @property
    def num_skipped_groups(self) -> int:
        """Number of groups with fewer than two samples that have a reward."""
        return int(self.group_std.isnan().sum())


def weighted_sum_advantages(totals: Tensor, group_size: int, *, clip: float = 5.0) -> Advantages:
    """Compute A = (R - mean) / (std + 1e-4) over each group, clipped (paper, section 3).

    Mean and population standard deviation are computed over the samples of the group that have a reward. A group with
    fewer than two such samples is skipped.

    Args:
        totals: `(P x G,)` total rewards, group by group; NaN for a sample without a reward.
        group_size: Videos per group, G.
        clip: Bound of |A|, > 0.
    """
    grouped = totals.float().view(-1, group_size)
    valid, std = _valid_samples(grouped)
    values = _standardise(grouped, valid).clamp(-clip, clip)
    return Advantages(values.flatten(), valid.flatten(), std)


def gdpo_advantages(
    components: Tensor, totals: Tensor, weights: Tensor, group_size: int, *, clip: float = 5.0
) -> Advantages:
    """Normalise every reward within its group, then their weighted sum over the rollout batch.

    GDPO: Liu et al., "GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL
    Optimization", 2026 (arXiv 2601.05242). Samples with different rewards but the same total get different advantages,
    and the scale of a reward does not affect its influence.

    Args:
        components: `(P x G, K)` rewards, group by group; NaN where a reward does not apply or failed.
        totals: `(P x G,)` total rewards; NaN for a sample that is left out.
        weights: `(K,)` factors of the rewards.
        group_size: Videos per group, G.
        clip: Bound of |A|, > 0.
    """
    valid, std = _valid_samples(totals.float().view(-1, group_size))
    standard, _ = _standardise_components(components, valid)
    summed = (standard * weights.to(standard)).sum(-1).flatten()
    flat = valid.flatten()
    values = _standardise(summed.unsqueeze(0), flat.unsqueeze(0)).squeeze(0).clamp(-clip, clip)
    return Advantages(values, flat, std)


def add_spatial_advantages(
    advantages: Advantages,
    components: Tensor,
    spatial_maps: Mapping[int, Tensor],
    size: tuple[int, int],
    weights: Tensor,
    group_size: int,
    *,
    clip: float = 5.0,
) -> Advantages:
    """Compute GDPO's advantages for every spatial position, from the spatial maps of rewards that have one.

    A video has thousands of latents and a group only a few samples, so a scalar reward is a very noisy signal for a
    single latent. A reward that is a sum over the picture also provides its contribution at each position p. Let A_k be
    the standardised reward, and a_k(p) its standardised map: centred over the group at each position, and divided by
    the RMS over all positions of the group. The advantage is sum_k w_k B_k(p), standardised over the rollout batch,
    with B_k(p) = (A_k + a_k(p)) / sqrt(2), or B_k(p) = A_k for rewards without a map. This is an extension; neither
    World-R1 nor Flow-GRPO uses it.

    Args:
        advantages: Result of `gdpo_advantages` for the same rewards; `valid` is used.
        components: `(P x G, K)` rewards; NaN where a reward does not apply or failed.
        spatial_maps: Index of a reward -> `(P x G, h, w)` on the grid of the latents; NaN where it is unknown.
        size: (h, w).
        weights: `(K,)` factors of the rewards.
        group_size: Videos per group, G.
        clip: Bound of |A|, > 0.

    Returns:
        Advantages with `values` of shape `(P x G, h, w)`.
    """
    standard, counted = _standardise_components(components, advantages.valid.view(-1, group_size))
    scalar = standard.flatten(0, 1)  # (P x G, K)
    summed = torch.zeros(len(scalar), *size)
    for k, weight in enumerate(weights.tolist()):
        whole = scalar[:, k, None, None]
        if k in spatial_maps:
            local = _standardise_maps(spatial_maps[k].float().unflatten(0, (-1, group_size)), counted[..., k])
            whole = (whole + local.flatten(0, 1)) / math.sqrt(2)
        summed += weight * whole
    summed = torch.where(advantages.valid[:, None, None], summed, torch.zeros_like(summed))
    rms = (summed.square().sum() / (advantages.valid.sum().clamp(min=1) * math.prod(size))).sqrt()
    return replace(advantages, values=(summed / (rms + EPSILON)).clamp(-clip, clip))


def _standardise_components(components: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Standardise every reward within its groups; return values and mask of valid entries, both `(P, G, K)`.

    Args:
        components: `(P x G, K)` rewards; NaN where a reward does not apply or failed.
        valid: `(P, G)` mask of valid samples.
    """
    grouped = components.float().view(*valid.shape, components.shape[-1])
    counted = valid.unsqueeze(-1) & ~grouped.isnan()
    counted = counted & (counted.sum(1, keepdim=True) >= 2)
    return _standardise(grouped, counted), counted


def _standardise_maps(maps: Tensor, mask: Tensor) -> Tensor:
    """Centre maps `(P, G, h, w)` over the group at each position; divide by the RMS over all positions of the group."""
    known = mask[..., None, None] & ~maps.isnan()
    count = known.sum(1, keepdim=True)
    kept = torch.where(known, maps, torch.zeros_like(maps))
    deviation = torch.where(known, maps - kept.sum(1, keepdim=True) / count.clamp(min=1), torch.zeros_like(maps))
    total = known.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return deviation / ((deviation.square().sum((1, 2, 3), keepdim=True) / total).sqrt() + EPSILON)


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Compute PPO's clipped loss, -min(r A, clip(r, 1 - low, 1 + high) A), and the probability ratio r.

    Args:
        log_prob: `(B,)` log-density of samples under the policy, or `(B, h, w)` per spatial position.
        old_log_prob: Log-density under the old policy, of the same shape.
        advantages: Advantages A, of the same shape.
        clip_low: Clipping range of the ratio below 1.
        clip_high: Clipping range of the ratio above 1.

    Returns:
        Loss and ratio, of the same shape as `log_prob`.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    clipped = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    return -torch.min(ratio * advantages, clipped * advantages), ratio


def _valid_samples(grouped: Tensor) -> tuple[Tensor, Tensor]:
    """Return the `(P, G)` mask of valid samples, and the `(P,)` standard deviations (NaN for skipped groups)."""
    known = ~grouped.isnan()
    valid = known & (known.sum(1, keepdim=True) >= 2)
    _, std = _moments(grouped, valid)
    std = std.squeeze(1)
    return valid, torch.where(valid.any(1), std, torch.full_like(std, torch.nan))


def _moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation over dimension 1 of the values where `mask` is true."""
    count = mask.sum(1, keepdim=True).clamp(min=1)
    kept = torch.where(mask, values, torch.zeros_like(values))
    mean = kept.sum(1, keepdim=True) / count
    deviation = torch.where(mask, values - mean, torch.zeros_like(values))
    return mean, ((deviation**2).sum(1, keepdim=True) / count).sqrt()


def _standardise(values: Tensor, mask: Tensor) -> Tensor:
    mean, std = _moments(values, mask)
    return torch.where(mask, (values - mean) / (std + EPSILON), torch.zeros_like(values))
