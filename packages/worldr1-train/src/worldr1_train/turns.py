"""Order in which the micro-batches of a stage's objectives are processed.

A turn is the processing of one micro-batch. An optimiser step has the same number of turns in every stage, because
gradient accumulation is fixed for a run. Stages that need fewer turns begin each optimiser step with empty ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldr1_core.objective import Objective
from worldr1_train.stages import Stage
from worldr1_train.updates import MicroBatch

if TYPE_CHECKING:  # importing transformers takes seconds, and plans do not need it
    from worldr1_train.config import FlowGRPOConfig


@dataclass(frozen=True, slots=True)
class Turn:
    """One micro-batch of one objective.

    Attributes:
        objective: Index of the objective in the stage.
        index: Index of the micro-batch among those of the objective.
    """

    objective: int
    index: int


class TurnPlan:
    """Turns of a rollout batch, for every stage.

    Args:
        stages: Stages of the training cycle.
        args: Training arguments with the batch sizes; `gradient_accumulation_steps` is set to `per_update`.
        window: Number of stochastic steps in the window.
        num_inference_steps: Number of steps of the schedule.

    Attributes:
        per_update: Turns per optimiser step.
        per_rollout_batch: Turns per rollout batch.
        most_recorded_steps: Largest number of recorded steps per video, over all objectives.

    Raises:
        UserError: The sizes do not divide each other, or an objective needs more steps than the schedule has.
    """

    def __init__(self, stages: Sequence[Stage], args: FlowGRPOConfig, window: int, num_inference_steps: int) -> None:
        self._recorded_steps = {"window": window, "all": num_inference_steps}
        updates, iterations = args.updates_per_rollout_batch, int(args.num_iterations)
        objectives = [[weighted.objective for weighted in stage.objectives] for stage in stages]
        counts = [[args.count_micro_batches(self.num_items(objective)) for objective in own] for own in objectives]
        self.per_update = max(sum(own) * iterations // updates for own in counts)
        self.per_rollout_batch = self.per_update * updates
        self.most_recorded_steps = max(self._recorded_steps[o.plan.steps] for own in objectives for o in own)
        self._turns = [self._fill_up(_in_turn(own, updates, iterations), updates) for own in counts]
        args.gradient_accumulation_steps = self.per_update

    def num_items(self, objective: Objective) -> int:
        """Return the number of items per video for an objective."""
        return objective.num_items(self._recorded_steps[objective.plan.steps])

    def turns(self, stage: int) -> list[Turn | None]:
        """Return the turns of a rollout batch of a stage; `None` is an empty turn."""
        return self._turns[stage]

    def opened_update(self, stage: int, position: int) -> list[int]:
        """Return the micro-batches of an optimiser step if a turn is the first of its objective there, else none.

        Args:
            stage: Index of the stage.
            position: Index of the turn in the rollout batch.

        Returns:
            Indices of the micro-batches of the turn's objective, in order, each once.
        """
        turns, start = self._turns[stage], position - position % self.per_update
        turn = turns[position]
        if turn is None or any(other and other.objective == turn.objective for other in turns[start:position]):
            return []
        rest = turns[position : start + self.per_update]
        return list(dict.fromkeys(other.index for other in rest if other and other.objective == turn.objective))

    def _fill_up(self, turns: Sequence[Turn], updates: int) -> list[Turn | None]:
        """Fill every optimiser step up to `per_update` turns with empty turns at its beginning."""
        own = len(turns) // updates
        result: list[Turn | None] = []
        for start in range(0, len(turns), own):
            result += [None] * (self.per_update - own)
            result += turns[start : start + own]
        return result


def count_valid_items(
    turns: Sequence[Turn | None], objective: int, batches: Sequence[MicroBatch], valid: Tensor, per_update: int
) -> Tensor:
    """Count the valid items of an objective on this process, for every optimiser step of the rollout batch.

    Args:
        turns: Turns of the rollout batch.
        objective: Index of the objective.
        batches: Micro-batches of the objective.
        valid: `(V,)` bool: valid samples of this process.
        per_update: Turns per optimiser step.

    Returns:
        `(updates,)` int64.
    """
    counts = [
        0 if turn is None or turn.objective != objective else int(valid[list(batches[turn.index].samples)].sum())
        for turn in turns
    ]
    return torch.tensor(counts, dtype=torch.int64).view(-1, per_update).sum(1)


def _in_turn(counts: Sequence[int], updates: int, iterations: int) -> list[Turn]:
    """Return the turns of all passes, with the micro-batches of each objective spread evenly over optimiser steps."""
    parts = max(1, updates // iterations)
    one_pass = []
    for part in range(parts):
        for objective, count in enumerate(counts):
            one_pass += [Turn(objective, index) for index in range(part * count // parts, (part + 1) * count // parts)]
    return one_pass * iterations
