"""Semi-global matching (Hirschmüller, 2008): each pixel's costs plus the cheapest smooth paths that lead to it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

STEP_COST = 0.01
"""Cost of a change by one plane between neighbours: slanted surfaces."""
JUMP_COST = 0.12
"""Cost of any larger change, where the image shows no edge."""
EDGE_GAIN = 40.0
"""Rate at which that cost falls with the grey difference between the two pixels."""


def aggregate(costs: Tensor, guide: Tensor) -> Tensor:
    """Sum of the costs along paths from left, right, above and below.

    Args:
        costs: `(T, D, h, w)`.
        guide: `(T, h, w)` grey images; depth may jump where they have edges.

    Returns:
        `(T, D, h, w)`.
    """
    across = functional.pad((guide[:, :, 1:] - guide[:, :, :-1]).abs(), (1, 0))
    down = functional.pad((guide[:, 1:] - guide[:, :-1]).abs(), (0, 0, 1, 0))
    rows = _both_ways(costs.permute(3, 0, 1, 2).contiguous(), across.permute(2, 0, 1))
    columns = _both_ways(costs.permute(2, 0, 1, 3).contiguous(), down.permute(1, 0, 2))
    return rows.permute(1, 2, 3, 0) + columns.permute(1, 2, 0, 3)


def _both_ways(costs: Tensor, edges: Tensor) -> Tensor:
    backward = torch.cat([edges[:1], edges[1:].flip(0)])
    return _scan(costs, edges).add_(_scan(costs.flip(0), backward).flip(0))


def _scan(costs: Tensor, edges: Tensor) -> Tensor:
    """Path costs along dimension 0 of `costs` `(L, T, D, M)`; `edges` `(L, T, M)` are differences to the one before."""
    jumps = (JUMP_COST / (1 + EDGE_GAIN * edges)).clamp(min=1.5 * STEP_COST)[:, :, None]
    wall = torch.full_like(costs[0, :, :1], torch.inf)
    result = torch.empty_like(costs)
    result[0] = costs[0]
    for index in range(1, len(costs)):
        before = result[index - 1]
        least = before.amin(1, keepdim=True)
        padded = torch.cat([wall, before, wall], 1)
        best = torch.minimum(padded[:, :-2], padded[:, 2:]).add_(STEP_COST)
        best = torch.minimum(torch.minimum(best, before), least + jumps[index])
        torch.add(costs[index], best.sub_(least), out=result[index])
    return result


def interpolated_minimum(costs: Tensor, planes: Tensor) -> Tensor:
    """Value `(T, h, w)` of the cheapest plane, between planes by a parabola through three costs.

    Args:
        costs: `(T, D, h, w)`.
        planes: `(T, D)` values of the planes.
    """
    count = costs.shape[1]
    best = costs.argmin(1, keepdim=True).clamp(1, count - 2)
    low, middle, high = (costs.gather(1, best + step)[:, 0] for step in (-1, 0, 1))
    bend = (2 * (low - 2 * middle + high)).clamp(min=1e-6)
    place = best[:, 0] + ((low - high) / bend).clamp(-0.5, 0.5)
    lower = place.floor().long().clamp(0, count - 2)
    share = place - lower
    values = planes[:, :, None, None].expand(-1, -1, *costs.shape[-2:])
    under, over = (values.gather(1, (lower + step)[:, None])[:, 0] for step in (0, 1))
    return under * (1 - share) + over * share
