"""Checks of objectives: the sizes that they need, before weights are loaded, and the form of their losses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worldr1_core.errors import PluginError, UserError, shorten
from worldr1_core.objective import Objective, UpdateBatch
from worldr1_train.stages import WeightedObjective

if TYPE_CHECKING:  # importing transformers takes seconds
    from worldr1_train.config import FlowGRPOConfig


def check_sizes(
    objectives: Iterable[WeightedObjective], args: FlowGRPOConfig, window: int, num_inference_steps: int
) -> None:
    """Check that the group size, the micro-batch size and the sampler's steps suit the objectives.

    Args:
        objectives: Objectives of the run.
        args: Training arguments with the sizes.
        window: Number of stochastic steps of the sampler.
        num_inference_steps: Number of steps of the sampler.

    Raises:
        UserError: They do not; the message names the objective.
        PluginError: `Objective.num_items` returns no integer of at least 1.
    """
    group, batch = args.num_generations, args.per_device_train_batch_size
    for weighted in objectives:
        name, objective = weighted.name, weighted.objective
        if objective.plan.steps == "window" and window < 1:
            raise UserError(
                f"Objective {name!r} needs a window of stochastic steps, received window {window!r}. Set the sampler's "
                "window to 1 or 2."
            )
        if objective.plan.scored and group < 2:
            raise UserError(
                f"Objective {name!r} compares the videos of a group, received group_size {group} (num_generations in "
                "Python). Use 2 or more."
            )
        if objective.compares_videos and (min(group, batch) < 2 or (batch % group and group % batch)):
            raise UserError(
                f"Objective {name!r} compares the videos of a prompt in a micro-batch, received group_size {group} "
                f"(num_generations in Python) and micro_batch_size {batch} (per_device_train_batch_size). Use 2 or "
                "more of both, one of them a multiple of the other."
            )
        count_items(name, objective, window if objective.plan.steps == "window" else num_inference_steps)


def count_items(name: str, objective: Objective, num_steps: int) -> int:
    """Return the number of items per video of an objective.

    Raises:
        PluginError: It is no integer of at least 1.
    """
    found: Any = objective.num_items(num_steps)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise PluginError(
            f"Objective {name!r}: num_items({num_steps}) must return an integer of at least 1, received "
            f"{shorten(found)}."
        )
    return found


def check_loss(name: str, found: Any, batch: UpdateBatch) -> Tensor:
    """Return the loss of a micro-batch if it has the form that `Objective.loss` promises.

    Args:
        name: Name of the objective.
        found: What `Objective.loss` returned.
        batch: The micro-batch.

    Raises:
        PluginError: It is no tensor with one value per item, or has no gradient.
    """
    expected = tuple(batch.valid.shape)
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else shorten(found)
        raise PluginError(
            f"Objective {name!r}: loss must return a tensor of shape {expected}, one value per item, received {what}. "
            "Average over all dimensions but the first."
        )
    if torch.is_grad_enabled() and not found.requires_grad:
        raise PluginError(
            f"Objective {name!r}: the loss has no gradient. Compute it from policy.predict or policy.denoise, and "
            "neither detach it nor compute it under torch.no_grad()."
        )
    return found
