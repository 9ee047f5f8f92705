"""Checks of combinations of training options, shared by manifests and training arguments."""

from __future__ import annotations

from enum import Enum
from typing import Any

from worldr1_train.options import OPTIONS


class Spelling(Enum):
    """Names of options in messages: those of the manifest, or those of `FlowGRPOConfig`."""

    MANIFEST = "manifest"
    ARGUMENT = "argument"

    def name_of(self, argument: str) -> str:
        """Return the name of an option: the last part of its manifest key, or the argument."""
        return OPTIONS[argument].name if self is Spelling.MANIFEST else argument

    def value_of(self, argument: str, value: Any) -> Any:
        """Convert the value of an argument to this spelling."""
        values = OPTIONS[argument].values
        if self is Spelling.ARGUMENT or values is None:
            return value
        return next(word for word, meaning in values.items() if meaning == value)


def check_batch_sizes(
    spelling: Spelling, *, group_size: int, num_groups: int, groups_per_rollout: int, micro_batch_size: int
) -> None:
    """Check that a rollout batch can be divided into chunks, and chunks into micro-batches.

    Args:
        spelling: Spelling of options in messages.
        group_size: Videos per group.
        num_groups: Groups per rollout batch on each process; over all processes if their number is unknown.
        groups_per_rollout: Groups denoised together.
        micro_batch_size: (video, timestep) pairs per micro-batch.

    Raises:
        ValueError: `groups_per_rollout` or `micro_batch_size` is not a divisor.
    """
    chunk = groups_per_rollout * group_size
    if num_groups % groups_per_rollout:
        raise ValueError(
            f"groups_per_rollout ({groups_per_rollout}) must divide the {num_groups} groups of a rollout batch on each "
            "process (prompts_per_rollout_batch)"
        )
    if chunk % micro_batch_size:
        raise ValueError(
            f"{spelling.name_of('per_device_train_batch_size')} ({micro_batch_size}) must divide the number of videos "
            f"denoised together, groups_per_rollout x {spelling.name_of('num_generations')} ({chunk})"
        )


def check_steps(name: str, steps: int, updates_per_rollout_batch: int) -> None:
    """Check that a number of optimiser steps is a multiple of the steps per rollout batch.

    Args:
        name: Name of the option, for the message.
        steps: Optimiser steps.
        updates_per_rollout_batch: Optimiser steps per rollout batch.

    Raises:
        ValueError: `steps` is not a multiple.
    """
    if steps % updates_per_rollout_batch:
        raise ValueError(
            f"{name} ({steps}) must be a multiple of updates_per_rollout_batch ({updates_per_rollout_batch})"
        )


def check_average(spelling: Spelling, total_steps: int, every: int | None) -> None:
    """Check that the moving average, which is exported, is updated at least once in a run.

    Args:
        spelling: Spelling of options in messages.
        total_steps: Optimiser steps of the run.
        every: Optimiser steps between updates of the average; `None` without an average.

    Raises:
        ValueError: The run ends before the first update.
    """
    if every is not None and total_steps < every:
        name, off = (
            ("ema.every", "ema to null") if spelling is Spelling.MANIFEST else ("ema_every", "ema_decay to None")
        )
        raise ValueError(
            f"the run ends after {total_steps} steps, before the first update of the average ({name}: {every}); the "
            f"average, which is exported, would be the untrained model. Lower {name}, or set {off}"
        )


def check_credit(spelling: Spelling, credit: str, aggregation: str) -> None:
    """Check that spatial credit is used with GDPO, which normalises each reward separately.

    Args:
        spelling: Spelling of options in messages.
        credit: `"video"` or `"spatial"`.
        aggregation: Value of the argument `multi_objective_aggregation`.

    Raises:
        ValueError: `credit` is `"spatial"` with another aggregation.
    """
    name = "multi_objective_aggregation"
    if credit == "spatial" and aggregation != "normalize_then_sum":
        raise ValueError(
            f"credit 'spatial' needs {spelling.name_of(name)} {spelling.value_of(name, 'normalize_then_sum')!r}, "
            f"received {spelling.value_of(name, aggregation)!r}"
        )
