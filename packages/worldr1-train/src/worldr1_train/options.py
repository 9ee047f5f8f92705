"""Definitions of the training options: manifest key, trainer argument, default, bounds and description.

The section `train` of a manifest and `FlowGRPOConfig` both take their defaults, bounds and descriptions from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field


@dataclass(frozen=True, slots=True)
class Option:
    """An option of training.

    Attributes:
        argument: Field of `FlowGRPOConfig`.
        key: Key in the manifest's section `train`; dots separate nested keys.
        default: Default value, as written in a manifest.
        help: Description.
        low: Lower bound; excluded if `above_low`.
        high: Upper bound; excluded if `below_high`.
        values: Value in a manifest -> value of the argument, for an option with a fixed set of values.
        inherited: Whether `transformers` or TRL checks the argument and provides its default in Python.
    """

    argument: str
    key: str
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    above_low: bool = False
    below_high: bool = False
    values: Mapping[str, Any] | None = None
    inherited: bool = False

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition(".")[2]

    def to_argument(self, value: Any) -> Any:
        """Convert a manifest value to the argument's value; `None` to the default."""
        value = self.default if value is None else value
        return value if self.values is None else self.values[value]

    def problem(self, value: Any) -> str | None:
        """Return why a value of the argument is invalid, or `None` if it is valid."""
        if self.values is not None:
            allowed = tuple(self.values.values())
            return None if value in allowed else f"must be one of {allowed}"
        if isinstance(self.default, bool) or self.low is None:
            return None
        is_whole = isinstance(self.default, int)
        is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
        if is_number and self._is_in_bounds(value):
            return None
        return f"must be a {'whole ' if is_whole else ''}number {self.bounds}"

    @property
    def bounds(self) -> str:
        """Bounds in words, for messages."""
        low = f"above {self.low:g}" if self.above_low else f"of at least {self.low:g}"
        if self.high is None:
            return low
        return f"{low} and {'below' if self.below_high else 'at most'} {self.high:g}"

    def _is_in_bounds(self, value: float) -> bool:
        assert self.low is not None
        above = value > self.low if self.above_low else value >= self.low
        below = self.high is None or (value < self.high if self.below_high else value <= self.high)
        return above and below


SIZES = (
    Option(
        "num_generations",
        "group_size",
        8,
        "Videos per group, G; they share a prompt. Objectives that compare them need 2 or more.",
        1,
        1024,
    ),
    Option(
        "prompts_per_rollout_batch",
        "prompts_per_rollout_batch",
        1,
        "Groups per rollout batch, over all processes; a multiple of the number of processes.",
        1,
        10**5,
    ),
    Option(
        "groups_per_rollout",
        "groups_per_rollout",
        1,
        "Groups denoised together on each process; lower it to save memory.",
        1,
        10**4,
    ),
    Option(
        "per_device_train_batch_size",
        "micro_batch_size",
        1,
        "(video, timestep) pairs per forward and backward pass on each process.",
        1,
        10**4,
    ),
    Option("updates_per_rollout_batch", "updates_per_rollout_batch", 1, "Optimiser steps per rollout batch.", 1, 10**5),
    Option("num_iterations", "num_iterations", 1, "Passes over a rollout batch.", 1, 100),
)

OPTIMISER = (
    Option(
        "learning_rate",
        "optimiser.learning_rate",
        1e-4,
        "Learning rate of AdamW.",
        0,
        1,
        above_low=True,
        inherited=True,
    ),
    Option("weight_decay", "optimiser.weight_decay", 1e-4, "Weight decay of AdamW.", 0, 1, inherited=True),
    Option(
        "max_grad_norm",
        "optimiser.max_grad_norm",
        1.0,
        "Maximum gradient norm for clipping; 0 disables clipping.",
        0,
        1e6,
        inherited=True,
    ),
    Option("lr_scheduler_type", "optimiser.schedule", "constant", "Learning rate schedule.", inherited=True),
    Option(
        "warmup_steps",
        "optimiser.warmup_steps",
        0,
        "Warm-up steps of the learning rate.",
        0,
        10**6,
        inherited=True,
    ),
)

OBJECTIVE = (
    Option(
        "epsilon",
        "objective.clip",
        1e-3,
        "Clipping range of the probability ratio around 1.",
        0,
        1,
        above_low=True,
        below_high=True,
    ),
    Option(
        "epsilon_high",
        "objective.clip_high",
        None,
        "Clipping range of the probability ratio above 1. Defaults to `clip`.",
        0,
        1e3,
        above_low=True,
        inherited=True,
    ),
    Option(
        "ratio_normalisation",
        "objective.ratio_normalisation",
        False,
        "Remove the bias of the log-ratio and scale it by the std of its step, so that `clip` has the same effect at "
        "every step (GRPO-Guard).",
    ),
    Option(
        "rectification",
        "objective.rectification",
        False,
        "Divide the loss of a step by the scale of its gradient with respect to the model's output, so that all steps "
        "of the schedule have the same weight (Flash-GRPO).",
    ),
    Option("beta", "objective.kl", 0.004, "Weight of the KL divergence to the model before training.", 0, 1e6),
    Option(
        "advantage_clip", "objective.advantage_clip", 5.0, "Bound of the absolute advantage.", 0, 1e3, above_low=True
    ),
    Option(
        "multi_objective_aggregation",
        "objective.aggregation",
        "weighted-sum",
        "How rewards are combined into one advantage: normalise their weighted sum within the group, or normalise each "
        "reward before the sum (GDPO).",
        values={"weighted-sum": "sum_then_normalize", "gdpo": "normalize_then_sum"},
    ),
    Option(
        "credit",
        "objective.credit",
        "video",
        "Credit assignment: `video` gives a video one advantage; `spatial` also uses the spatial maps of rewards that "
        "have one, for an advantage per position (needs GDPO).",
        values={"video": "video", "spatial": "spatial"},
    ),
)

RUN = (
    Option("ema_decay", "ema.decay", 0.9, "Decay: weight of the old average in an update.", 0, 1, below_high=True),
    Option("ema_every", "ema.every", 8, "Optimiser steps between updates of the average.", 1, 10**6),
    Option(
        "bf16",
        "precision",
        "auto",
        "Precision of the denoisers: auto is bfloat16 on a GPU and float32 on the CPU.",
        values={"auto": None, "float32": False, "bfloat16": True},
        inherited=True,
    ),
    Option(
        "gradient_checkpointing",
        "gradient_checkpointing",
        True,
        "Recompute activations in the backward pass: less memory, about a third more time.",
    ),
    Option("async_rewards", "async_rewards", True, "Score a chunk of rollouts while the next ones are sampled."),
    Option(
        "chunks_ahead",
        "chunks_ahead",
        1,
        "Chunks that may be without scores when the next one is sampled, with `async_rewards`. More keep several "
        "servers busy, and take the memory of their videos.",
        1,
        10**4,
    ),
    Option(
        "max_failed_share",
        "failures.max_share",
        0.5,
        "Maximum share of samples of a rollout batch whose rewards may fail; above it the run stops.",
        0,
        1,
    ),
    Option(
        "max_refills",
        "failures.refills",
        0,
        "How often videos whose rewards failed are sampled and scored again, to complete their groups.",
        0,
        100,
    ),
    Option(
        "max_loss",
        "failures.max_loss",
        100.0,
        "Maximum absolute loss of an optimiser step; above it the run stops.",
        0,
        1e9,
        above_low=True,
    ),
    Option("num_sample_videos", "samples.num_videos", 2, "Number of videos written from a rollout batch.", 0, 64),
    Option("sample_videos_every", "samples.every", 50, "Optimiser steps between written samples.", 1, 10**7),
    Option(
        "save_steps",
        "checkpoints.every",
        50,
        "Optimiser steps between checkpoints. The last one is always kept.",
        1,
        10**7,
        inherited=True,
    ),
    Option("save_total_limit", "checkpoints.keep", 2, "Number of checkpoints to keep.", 1, 1000, inherited=True),
)

OPTIONS: Mapping[str, Option] = {option.argument: option for option in (*SIZES, *OPTIMISER, *OBJECTIVE, *RUN)}
"""Argument -> option. `worldr1_train.plan_arguments` computes the arguments that depend on several keys."""

_BY_KEY = {option.key: option for option in OPTIONS.values()}


def manifest_field(key: str) -> Any:
    """Return the pydantic field of an option, by its key in the section `train`."""
    option = _BY_KEY[key]
    bounds: dict[str, Any] = {
        ("gt" if option.above_low else "ge"): option.low,
        ("lt" if option.below_high else "le"): option.high,
    }
    return Field(option.default, description=option.help, **{k: v for k, v in bounds.items() if v is not None})


def argument_field(argument: str) -> Any:
    """Return the dataclass field of an option, by the name of its argument."""
    option = OPTIONS[argument]
    return dataclasses.field(default=option.to_argument(option.default), metadata={"help": option.help})


def read_section(section: Any) -> dict[str, Any]:
    """Return the trainer arguments for a section `train`, for all options in `OPTIONS`."""
    arguments = {option.argument: option.to_argument(_lookup(section, option.key)) for option in OPTIONS.values()}
    return arguments if section.ema is not None else {**arguments, "ema_decay": None}


def _lookup(section: Any, key: str) -> Any:
    for part in key.split("."):
        section = None if section is None else getattr(section, part, None)
    return section
