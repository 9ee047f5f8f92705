"""What training options must satisfy together, in one place for manifests and for training arguments."""

from __future__ import annotations

from enum import Enum
from typing import Any

from worldr1_train.options import OPTIONS


class Spelling(Enum):
    """How messages name an option: as the manifest does, or as `FlowGRPOConfig` does."""

    MANIFEST = "manifest"
    ARGUMENT = "argument"

    def name_of(self, argument: str) -> str:
        """The name of an option within its part of the manifest, or of the argument."""
        return OPTIONS[argument].name if self is Spelling.MANIFEST else argument

    def value_of(self, argument: str, value: Any) -> Any:
        """A value as it is spelled there."""
        values = OPTIONS[argument].values
        if self is Spelling.ARGUMENT or values is None:
            return value
        return next(word for word, meaning in values.items() if meaning == value)


def check_batch_sizes(
    spelling: Spelling, *, group_size: int, num_groups: int, groups_per_rollout: int, micro_batch_size: int
) -> None:
    """Check that a rollout batch can be divided.

    Args:
        spelling: Of the message.
        group_size: Videos of a group.
        num_groups: Groups of a rollout batch on each process, as far as is known.
        groups_per_rollout: Groups that are denoised together.
        micro_batch_size: Pairs of a micro-batch.

    Raises:
        ValueError: It cannot.
    """
    chunk = groups_per_rollout * group_size
    if num_groups % groups_per_rollout:
        raise ValueError(
            f"groups_per_rollout ({groups_per_rollout}) must divide the {num_groups} groups of a rollout batch on each "
            "process (prompts_per_rollout_batch)"
        )
    if chunk % micro_batch_size:
        raise ValueError(
            f"{spelling.name_of('per_device_train_batch_size')} ({micro_batch_size}) must divide the videos that are "
            f"denoised together, groups_per_rollout x {spelling.name_of('num_generations')} ({chunk})"
        )


def check_steps(name: str, steps: int, updates_per_rollout_batch: int) -> None:
    """Check that a number of optimiser steps is one of whole rollout batches.

    Raises:
        ValueError: It is not.
    """
    if steps % updates_per_rollout_batch:
        raise ValueError(
            f"{name} ({steps}) must be a multiple of updates_per_rollout_batch ({updates_per_rollout_batch})"
        )


def check_average(spelling: Spelling, total_steps: int, every: int | None) -> None:
    """Check that a run is long enough for its moving average, which is what is exported.

    Args:
        spelling: Of the message.
        total_steps: Optimiser steps of the run.
        every: Steps from one update of the average to the next; `None` without an average.

    Raises:
        ValueError: It is not.
    """
    if every is not None and total_steps < every:
        name, off = (
            ("ema.every", "ema to null") if spelling is Spelling.MANIFEST else ("ema_every", "ema_decay to None")
        )
        raise ValueError(
            f"the run ends after {total_steps} steps, before {name} ({every}): the average, which is exported, would "
            f"be the untrained model. Lower {name}, or set {off}"
        )


def check_credit(spelling: Spelling, credit: str, aggregation: str) -> None:
    """Check that rewards are normalised one by one where places are credited.

    Args:
        spelling: Of the message.
        credit: `"video"` or `"spatial"`.
        aggregation: The argument `multi_objective_aggregation`.

    Raises:
        ValueError: They are not.
    """
    name = "multi_objective_aggregation"
    if credit == "spatial" and aggregation != "normalize_then_sum":
        raise ValueError(
            f"credit 'spatial' needs {spelling.name_of(name)} {spelling.value_of(name, 'normalize_then_sum')!r}, "
            f"received {spelling.value_of(name, aggregation)!r}"
        )
