"""Periodic decoupled training: which stage a rollout batch belongs to, and which prompts it draws.

Both are pure functions of the seed and the rollout batch's number, so that a resumed run needs no state for them
(paper, section 4 of the method).
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
    """What the trainer asks of a scorer; `worldr1_core.scoring.ScoringEngine` is one."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """What any of its rewards reads."""

    def score(self, clips: Iterable[Clip], *, batch_size: int = 1) -> Iterable[ClipScores]:
        """Score clips, in order."""


@dataclass(frozen=True, slots=True)
class WeightedObjective:
    """An objective with its factor in the loss.

    Attributes:
        objective: The objective.
        weight: Factor, > 0.
        statistics: Computes the rewards that `objective.statistics` names; `None` if it names none.
    """

    objective: Objective
    weight: float = 1.0
    statistics: FrameScorer | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase of the training cycle.

    Attributes:
        name: How logs call it.
        steps: Optimiser steps a cycle, >= 1.
        split: Name of the prompts; stages with the same name go on in one order.
        prompts: The prompts, at least one.
        scorer: Scores clips with the stage's rewards.
        weights: Reward name -> factor in the total; the rewards that train.
        conditioner: Draws the initial noise.
        objectives: Summed into the loss; the trainer's own objective if empty.
        frame_scorer: Computes the rewards that train with their gradients; `None` if no objective reads them.
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
    def needs_reference(self) -> bool:
        """Whether a reward compares with the model before training, so that each group gets a video of it."""
        return Requirement.REFERENCE in self.scorer.requires


class StageSchedule:
    """The stages one after the other, again and again.

    Args:
        stages: At least one.
        updates_per_rollout_batch: Optimiser steps that are made from one rollout batch.

    Raises:
        UserError: There is no stage, a stage holds no prompt, or its steps are no multiple of
            `updates_per_rollout_batch`.
    """

    def __init__(self, stages: Sequence[Stage], updates_per_rollout_batch: int) -> None:
        if not stages:
            raise UserError("Training needs at least one stage, e.g. `stages: [{steps: 100, prompts: main}]`.")
        for stage in stages:
            if not stage.prompts:
                raise UserError(f"Stage {stage.name!r} has no prompt. Write at least one into its prompt file.")
            if stage.steps < 1 or stage.steps % updates_per_rollout_batch:
                raise UserError(
                    f"Stage {stage.name!r} lasts {stage.steps!r} steps, which is no multiple of the "
                    f"{updates_per_rollout_batch} updates of a rollout batch. Change steps or "
                    "updates_per_rollout_batch."
                )
        self.stages = list(stages)
        self.updates_per_rollout_batch = updates_per_rollout_batch
        self._lengths = [stage.steps // updates_per_rollout_batch for stage in stages]

    @property
    def cycle_steps(self) -> int:
        """Optimiser steps of one cycle."""
        return sum(stage.steps for stage in self.stages)

    def at(self, rollout_batch: int) -> Stage:
        """The stage of a rollout batch, counted from 0."""
        return self.stages[self.index(rollout_batch)]

    def prompts(self, rollout_batch: int, count: int, seed: int) -> list[str]:
        """The prompts of a rollout batch: a shuffled pass over the split after the other, none left out.

        Args:
            rollout_batch: Number of the rollout_batch, from 0.
            count: Prompts per rollout batch.
            seed: Seed of the run.
        """
        stage = self.at(rollout_batch)
        first = count * sum(self.at(earlier).split == stage.split for earlier in range(rollout_batch))
        return [self._prompt(stage, position, seed) for position in range(first, first + count)]

    def index(self, rollout_batch: int) -> int:
        """Number of the stage of a rollout batch in the cycle."""
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
