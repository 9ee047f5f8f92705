"""Periodic decoupled training (paper, section 4): the stage and the prompts of each rollout batch.

Both are pure functions of the seed and the number of the rollout batch, so checkpoints need no state for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.frame_scoring import FrameScorer
from worldr1_core.noise import NoiseConditioner
from worldr1_core.objective import Objective
from worldr1_core.reward import Requirement
from worldr1_core.scoring import ClipScores
from worldr1_core.seeding import generator


class ClipScorer(Protocol):
    """Interface of a scorer in the trainer; `worldr1_core.scoring.ScoringEngine` implements it."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """Union of the requirements of its rewards."""

    def score(self, clips: Iterable[Clip], *, batch_size: int = 1) -> Iterable[ClipScores]:
        """Score clips, in order."""


@dataclass(frozen=True, slots=True)
class WeightedObjective:
    """An objective with its factor in the loss.

    Attributes:
        objective: The objective.
        weight: Factor in the loss, > 0.
        statistics: Computes the rewards that `objective.statistics` names; `None` if it names none.
        name: Name in messages and in the log. Defaults to the name of the class.
    """

    objective: Objective
    weight: float = 1.0
    statistics: FrameScorer | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", type(self.objective).__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase of the training cycle.

    Attributes:
        name: Name of the stage in messages.
        steps: Optimiser steps per cycle, >= 1.
        split: Name of the prompt split. Stages with the same split continue the same sequence of prompts.
        prompts: The prompts, at least one.
        scorer: Scores clips with the rewards of the stage.
        weights: Reward name -> factor in the total, for the rewards that are trained on.
        conditioner: Draws the initial noise.
        objectives: Objectives whose losses are summed. If empty, the stage uses the trainer's objective.
        frame_scorer: Computes differentiable rewards; `None` if no objective needs their gradients.
    """

    name: str
    steps: int
    split: str
    prompts: Sequence[str]
    scorer: ClipScorer
    weights: dict[str, float]
    conditioner: NoiseConditioner
    objectives: tuple[WeightedObjective, ...] = ()
    frame_scorer: FrameScorer | None = None

    @property
    def note_prefixes(self) -> list[str]:
        """What precedes the names that each objective logs: nothing if it is the only one of the stage."""
        names = [weighted.name for weighted in self.objectives]
        if len(names) == 1:
            return [""]
        return [f"{name}.{i}/" if names.count(name) > 1 else f"{name}/" for i, name in enumerate(names)]

    @property
    def needs_reference(self) -> bool:
        """Whether a reward compares with the model before training, which then generates a video for each group."""
        return Requirement.REFERENCE in self.scorer.requires


class StageSchedule:
    """Cycle of stages, repeated until training ends.

    Args:
        stages: Stages of the cycle, at least one.
        updates_per_rollout_batch: Optimiser steps per rollout batch.

    Raises:
        UserError: There is no stage, a stage has no prompt, or its steps are not a multiple of
            `updates_per_rollout_batch`.
    """

    def __init__(self, stages: Sequence[Stage], updates_per_rollout_batch: int) -> None:
        if not stages:
            raise UserError("Training needs at least one stage, e.g. `stages: [{steps: 100, prompts: main}]`.")
        for stage in stages:
            if not stage.prompts:
                raise UserError(f"Stage {stage.name!r} has no prompts. Add at least one prompt to its split.")
            if stage.steps < 1 or stage.steps % updates_per_rollout_batch:
                raise UserError(
                    f"Stage {stage.name!r} has {stage.steps!r} steps, which is not a positive multiple of "
                    f"updates_per_rollout_batch ({updates_per_rollout_batch}). Change one of the two."
                )
        self.stages = list(stages)
        self.updates_per_rollout_batch = updates_per_rollout_batch
        self._lengths = [stage.steps // updates_per_rollout_batch for stage in stages]

    @property
    def cycle_steps(self) -> int:
        """Optimiser steps of one cycle."""
        return sum(stage.steps for stage in self.stages)

    def at(self, rollout_batch: int) -> Stage:
        """Return the stage of a rollout batch, counted from 0."""
        return self.stages[self.index(rollout_batch)]

    def prompts(self, rollout_batch: int, count: int, seed: int) -> list[str]:
        """Return the prompts of a rollout batch; every pass over the split is shuffled and contains each prompt once.

        Args:
            rollout_batch: Number of the rollout batch, from 0.
            count: Prompts per rollout batch.
            seed: Seed of the run.
        """
        stage = self.at(rollout_batch)
        first = count * sum(self.at(earlier).split == stage.split for earlier in range(rollout_batch))
        return [self._prompt(stage, position, seed) for position in range(first, first + count)]

    def index(self, rollout_batch: int) -> int:
        """Return the index in the cycle of the stage of a rollout batch."""
        position = rollout_batch % sum(self._lengths)
        for index, length in enumerate(self._lengths):
            if position < length:
                return index
            position -= length
        raise AssertionError("a position lies within the cycle")

    @staticmethod
    def _prompt(stage: Stage, position: int, seed: int) -> str:
        num_prompts = len(stage.prompts)
        epoch, offset = divmod(position, num_prompts)
        order = torch.randperm(num_prompts, generator=generator(seed, "prompts", stage.split, epoch))
        return stage.prompts[int(order[offset])]
