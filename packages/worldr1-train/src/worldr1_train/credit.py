"""Credit assignment: one advantage per video, or one per spatial position for rewards with spatial maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from worldr1_core.errors import UserError
from worldr1_core.objective import AdvantageOptions
from worldr1_train.advantages import Advantages, add_spatial_advantages, gdpo_advantages, weighted_sum_advantages
from worldr1_train.rollouts import SampleScore
from worldr1_train.stages import Stage


def assign_credit(
    options: AdvantageOptions, group_size: int, stage: Stage, scores: Sequence[SampleScore], latents: Tensor
) -> Advantages:
    """Compute the advantages of the samples of all processes, group by group.

    Args:
        options: Aggregation of rewards, bound of the advantages, and credit assignment.
        group_size: Videos per group.
        stage: Stage with the weights of the trained rewards.
        scores: Scores of the samples.
        latents: `(B, ..., h, w)` latents of any recorded step; only their shape is used.

    Raises:
        UserError: Credit is spatial, but the latents have no spatial dimensions.
    """
    totals = torch.tensor([score.total for score in scores], dtype=torch.float32)
    if options.aggregation == "weighted-sum":
        whole = weighted_sum_advantages(totals, group_size, clip=options.clip)
    else:
        components, weights = _components(stage, scores)
        whole = gdpo_advantages(components, totals, weights, group_size, clip=options.clip)
    if options.credit == "video":
        return whole
    if latents.ndim < 4:
        raise UserError(
            "credit 'spatial' needs latents of shape (batch, ..., height, width), received latents of shape "
            f"{tuple(latents.shape)}. Set credit to 'video'."
        )
    size = (int(latents.shape[-2]), int(latents.shape[-1]))
    components, weights = _components(stage, scores)
    maps = _spatial_maps(stage, scores, size)
    return add_spatial_advantages(whole, components, maps, size, weights, group_size, clip=options.clip)


def _components(stage: Stage, scores: Sequence[SampleScore]) -> tuple[Tensor, Tensor]:
    """Return the rewards `(N, K)`, NaN where they are missing, and their weights `(K,)`."""
    names = list(stage.weights)
    components = torch.tensor([[score.values.get(name, math.nan) for name in names] for score in scores])
    return components, torch.tensor([stage.weights[name] for name in names])


def _spatial_maps(stage: Stage, scores: Sequence[SampleScore], size: tuple[int, int]) -> dict[int, Tensor]:
    """Return reward index -> spatial maps `(N, h, w)`, for rewards that have them; NaN for samples without a map."""
    nothing = torch.full(size, math.nan)
    maps = {}
    for k, name in enumerate(stage.weights):
        found = [score.spatial_maps.get(name) for score in scores]
        if any(one is not None for one in found):
            maps[k] = torch.stack([nothing if one is None else _resize(one, size) for one in found])
    return maps


def _resize(spatial_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map `(h', w')` to `(h, w)` by averaging areas; an area that contains NaN becomes NaN."""
    return adaptive_avg_pool2d(spatial_map[None].float().cpu(), size)[0]
