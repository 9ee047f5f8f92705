"""From a stage to micro-batches: each objective of the stage samples what it needs, and its items take their turns.

An optimiser step has the same number of turns in every stage, because gradient accumulation is fixed for a run. Stages
that need fewer begin an optimiser step with empty turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldr1_core.objective import Objective
from worldr1_train.updates import MicroBatch, UpdateBuffer

if TYPE_CHECKING:  # transformers takes seconds to import, and plans need none of it
    from worldr1_train.config import FlowGRPOConfig
    from worldr1_train.stages import Stage


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose micro-batch comes next.

    Attributes:
        objective: Index of the objective in the stage.
        index: Number of its micro-batch.
    """

    objective: int
    index: int


@dataclass(slots=True)
class ActiveObjective:
    """An objective of the present rollout batch.

    Attributes:
        objective: The objective.
        weight: Its factor in the loss.
        buffer: Data of its updates.
    """

    objective: Objective
    weight: float
    buffer: UpdateBuffer


def num_recorded_steps(objective: Objective, window: int, num_inference_steps: int) -> int:
    """Recorded steps of every video."""
    return window if objective.plan.steps == "window" else num_inference_steps


class TurnPlan:
    """Turns of a rollout batch, for every stage.

    Args:
        stages: The cycle.
        args: Sizes; `gradient_accumulation_steps` is set.
        window: Stochastic steps of the window.
        num_inference_steps: Steps of the schedule.

    Raises:
        UserError: The sizes do not divide each other, or an objective asks for more steps than there are.
    """

    def __init__(self, stages: Sequence[Stage], args: FlowGRPOConfig, window: int, num_inference_steps: int) -> None:
        self._updates, self._iterations = args.updates_per_rollout_batch, int(args.num_iterations)
        counts = []
        for stage in stages:
            items = [
                weighted.objective.num_items(num_recorded_steps(weighted.objective, window, num_inference_steps))
                for weighted in stage.objectives
            ]
            counts.append([args.count_micro_batches(number) for number in items])
        self._counts = counts
        totals = [sum(own) * self._iterations // self._updates for own in counts]
        self.per_update = max(totals)
        args.gradient_accumulation_steps = self.per_update

    @property
    def per_rollout_batch(self) -> int:
        """Turns of a rollout batch."""
        return self.per_update * self._updates

    def turns(self, stage: int) -> list[Turn | None]:
        """Turns of a rollout batch of a stage; `None` is an empty one."""
        passes = [
            Turn(objective, index)
            for _ in range(self._iterations)
            for objective, index in _in_turn(self._counts[stage], self._updates_per_pass)
        ]
        own = len(passes) // self._updates
        result: list[Turn | None] = []
        for start in range(0, len(passes), own):
            result += [None] * (self.per_update - own)
            result += passes[start : start + own]
        return result

    @property
    def _updates_per_pass(self) -> int:
        return max(1, self._updates // self._iterations)


def count_valid_items(
    turns: Sequence[Turn | None], objective: int, batches: Sequence[MicroBatch], valid: Tensor, per_update: int
) -> Tensor:
    """Items of an objective that count on this process, in every optimiser step of the rollout batch.

    Args:
        turns: Turns of the rollout batch.
        objective: Index of the objective.
        batches: Its micro-batches.
        valid: `(V,)` samples of this process that count.
        per_update: Turns of an optimiser step.

    Returns:
        `(updates,)` int64.
    """
    counts = [
        0 if turn is None or turn.objective != objective else int(valid[list(batches[turn.index].samples)].sum())
        for turn in turns
    ]
    return torch.tensor(counts, dtype=torch.int64).view(-1, per_update).sum(1)


def _in_turn(counts: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """(objective, micro-batch) of one pass, so that each of `parts` holds as much of every objective as can be."""
    order = []
    for part in range(parts):
        for objective, count in enumerate(counts):
            order += [(objective, index) for index in range(part * count // parts, (part + 1) * count // parts)]
    return order
