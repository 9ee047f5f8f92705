"""Every training option once: its key in a manifest, the argument of the trainer it becomes, bounds, and what it does.

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
        key: Key in the manifest's section `train`; dots lead into its parts.
        default: Default of both, as the manifest spells it.
        help: What it does.
        low: Least value; excluded if `above_low`.
        high: Greatest value; excluded if `below_high`.
        values: What the manifest says -> what the argument is, for an option that is one of several words.
        inherited: Whether `transformers` or TRL checks the argument, and gives its default in Python.
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
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    def to_argument(self, value: Any) -> Any:
        """The argument for a value of the manifest; the default for a part of the manifest that is null."""
        value = self.default if value is None else value
        return value if self.values is None else self.values[value]

    def problem(self, value: Any) -> str | None:
        """Why the argument cannot have a value, or `None`."""
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
        """The bounds in words."""
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
        "Videos of a group, which share a prompt: G; objectives that compare them need 2 or more.",
        1,
        1024,
    ),
    Option(
        "prompts_per_rollout_batch",
        "prompts_per_rollout_batch",
        1,
        "Groups of a rollout batch, over all processes; a multiple of their number.",
        1,
        10**5,
    ),
    Option(
        "groups_per_rollout",
        "groups_per_rollout",
        1,
        "Groups that are denoised together on a process; lower it to save memory.",
        1,
        10**4,
    ),
    Option(
        "per_device_train_batch_size",
        "micro_batch_size",
        1,
        "(video, timestep) pairs of one forward and backward pass on a process.",
        1,
        10**4,
    ),
    Option(
        "updates_per_rollout_batch", "updates_per_rollout_batch", 1, "Optimiser steps from one rollout batch.", 1, 10**5
    ),
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
        "Norm to which gradients are clipped; 0 for none.",
        0,
        1e6,
        inherited=True,
    ),
    Option("lr_scheduler_type", "optimiser.schedule", "constant", "Course of the learning rate.", inherited=True),
    Option(
        "warmup_steps",
        "optimiser.warmup_steps",
        0,
        "Optimiser steps until the full learning rate.",
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
        "How far the probability ratio may leave 1.",
        0,
        1,
        above_low=True,
        below_high=True,
    ),
    Option(
        "epsilon_high",
        "objective.clip_high",
        None,
        "How far it may rise above 1; as `clip` if left out.",
        0,
        1e3,
        above_low=True,
        inherited=True,
    ),
    Option(
        "ratio_normalisation",
        "objective.ratio_normalisation",
        False,
        "Take the bias of drifted means out of the log-ratio and measure it in the unit of the sample, so that `clip` "
        "means the same at every step (GRPO-Guard).",
    ),
    Option(
        "rectification",
        "objective.rectification",
        False,
        "Divide the loss of a step by the scale of its gradient in the model's output, so that every step of the "
        "schedule weighs the same (Flash-GRPO).",
    ),
    Option("beta", "objective.kl", 0.004, "Weight of the KL divergence to the model before training.", 0, 1e6),
    Option(
        "advantage_clip", "objective.advantage_clip", 5.0, "Bound of the absolute advantage.", 0, 1e3, above_low=True
    ),
    Option(
        "multi_objective_aggregation",
        "objective.aggregation",
        "weighted-sum",
        "How rewards become one advantage: normalise their weighted sum within the group, or each of them first "
        "(GDPO).",
        values={"weighted-sum": "sum_then_normalize", "gdpo": "normalize_then_sum"},
    ),
    Option(
        "credit",
        "objective.credit",
        "video",
        "Who earns a reward: the video as a whole, or half of it the places of the picture where it was earned, for "
        "rewards that say so (needs GDPO).",
        values={"video": "video", "spatial": "spatial"},
    ),
)

RUN = (
    Option("ema_decay", "ema.decay", 0.9, "Weight of the average against new values.", 0, 1, below_high=True),
    Option("ema_every", "ema.every", 8, "Optimiser steps from one update of the average to the next.", 1, 10**6),
    Option(
        "bf16",
        "precision",
        "auto",
        "Arithmetic of the denoisers: auto is bfloat16 on a GPU and float32 on the CPU.",
        values={"auto": None, "float32": False, "bfloat16": True},
        inherited=True,
    ),
    Option(
        "gradient_checkpointing",
        "gradient_checkpointing",
        True,
        "Compute activations again in the backward pass: less memory, about a third more time.",
    ),
    Option("async_rewards", "async_rewards", True, "Score a chunk of rollouts while the next is sampled."),
    Option(
        "max_failed_share",
        "failures.max_share",
        0.5,
        "Share of a rollout batch's samples whose rewards may fail before the run stops.",
        0,
        1,
    ),
    Option(
        "max_refills",
        "failures.refills",
        0,
        "How often videos whose rewards failed are sampled and scored again, so that their groups are whole.",
        0,
        100,
    ),
    Option(
        "max_loss",
        "failures.max_loss",
        100.0,
        "Absolute loss of an optimiser step above which the run stops.",
        0,
        1e9,
        above_low=True,
    ),
    Option("num_sample_videos", "samples.num_videos", 2, "Videos of a rollout batch that are written.", 0, 64),
    Option("sample_videos_every", "samples.every", 50, "Optimiser steps from one writing to the next.", 1, 10**7),
    Option(
        "save_steps",
        "checkpoints.every",
        50,
        "Optimiser steps from one to the next; the last is always kept.",
        1,
        10**7,
        inherited=True,
    ),
    Option("save_total_limit", "checkpoints.keep", 2, "How many are kept.", 1, 1000, inherited=True),
)

OPTIONS: Mapping[str, Option] = {option.argument: option for option in (*SIZES, *OPTIMISER, *OBJECTIVE, *RUN)}
"""Argument -> option. The others follow from several keys: see `worldr1_train.plan_arguments`."""

_BY_KEY = {option.key: option for option in OPTIONS.values()}


def manifest_field(key: str) -> Any:
    """The pydantic field of an option, by its key in the section."""
    option = _BY_KEY[key]
    bounds: dict[str, Any] = {
        ("gt" if option.above_low else "ge"): option.low,
        ("lt" if option.below_high else "le"): option.high,
    }
    return Field(option.default, description=option.help, **{k: v for k, v in bounds.items() if v is not None})


def argument_field(argument: str) -> Any:
    """The dataclass field of an option, by the name of its argument."""
    option = OPTIONS[argument]
    return dataclasses.field(default=option.to_argument(option.default), metadata={"help": option.help})


def read_section(section: Any) -> dict[str, Any]:
    """The arguments that a section `train` stands for, of the options that have one key."""
    arguments = {option.argument: option.to_argument(_lookup(section, option.key)) for option in OPTIONS.values()}
    return arguments if section.ema is not None else {**arguments, "ema_decay": None}


def _lookup(section: Any, key: str) -> Any:
    for part in key.split("."):
        section = None if section is None else getattr(section, part, None)
    return section
