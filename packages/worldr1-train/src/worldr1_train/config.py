"""Training arguments: TRL's `GRPOConfig` with the defaults of World-R1, without the options for tokens."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from trl import GRPOConfig

from worldr1_core.deprecation import warn_renamed
from worldr1_core.errors import UserError
from worldr1_train.launch import check_launch
from worldr1_train.option_checks import Spelling, check_average, check_batch_sizes, check_credit, check_steps
from worldr1_train.options import OPTIONS, argument_field
from worldr1_train.precision import runs_in_bfloat16

SUPPORTED = frozenset(
    {
        *("learning_rate", "num_generations", "beta", "num_iterations", "epsilon", "epsilon_high"),
        *("multi_objective_aggregation", "remove_unused_columns", "disable_dropout"),
    }
)
"""Fields that TRL adds to `transformers.TrainingArguments` and that have the same meaning here."""


@dataclass
class FlowGRPOConfig(GRPOConfig):
    r"""Arguments of [`FlowGRPOTrainer`]. Arguments of [`~trl.GRPOConfig`] for tokens or vLLM raise an error.

    A rollout batch contains `prompts_per_rollout_batch` groups of `num_generations` videos, over all processes. It is
    used for `updates_per_rollout_batch` optimiser steps, in micro-batches of `per_device_train_batch_size` (video,
    timestep) pairs. The number of gradient accumulation steps is computed from these numbers, and `bf16` is chosen by
    device if it is left out. Defaults are the values of World-R1.

    The options, their bounds and their manifest keys are defined in `worldr1_train.options`.
    """

    learning_rate: float = argument_field("learning_rate")
    per_device_train_batch_size: int = argument_field("per_device_train_batch_size")
    gradient_checkpointing: bool = argument_field("gradient_checkpointing")
    weight_decay: float = argument_field("weight_decay")
    max_grad_norm: float = argument_field("max_grad_norm")
    lr_scheduler_type: str = argument_field("lr_scheduler_type")
    logging_steps: float = field(default=1, metadata={"help": "Optimiser steps between logs."})
    num_generations: int = argument_field("num_generations")
    epsilon: float = argument_field("epsilon")
    beta: float = argument_field("beta")
    multi_objective_aggregation: str = argument_field("multi_objective_aggregation")
    bf16: bool | None = field(
        default=None, metadata={"help": "Run the denoisers in bfloat16. Defaults to true on a GPU, false on the CPU."}
    )
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Has no effect here."})

    prompts_per_rollout_batch: int = argument_field("prompts_per_rollout_batch")
    updates_per_rollout_batch: int = argument_field("updates_per_rollout_batch")
    groups_per_rollout: int = argument_field("groups_per_rollout")
    credit: str = argument_field("credit")
    ratio_normalisation: bool = argument_field("ratio_normalisation")
    rectification: bool = argument_field("rectification")
    advantage_clip: float = argument_field("advantage_clip")
    ema_decay: float | None = argument_field("ema_decay")
    ema_every: int = argument_field("ema_every")
    full_finetuning: bool = field(
        default=False, metadata={"help": "Train every weight of the denoisers in float32 instead of an adapter."}
    )
    async_rewards: bool = argument_field("async_rewards")
    chunks_ahead: int = argument_field("chunks_ahead")
    max_failed_share: float = argument_field("max_failed_share")
    max_refills: int = argument_field("max_refills")
    max_loss: float = argument_field("max_loss")
    num_sample_videos: int = argument_field("num_sample_videos")
    sample_videos_every: int = argument_field("sample_videos_every")

    recompute_activations: bool = field(
        init=False, default=False, metadata={"help": "Value of gradient_checkpointing, which the backbone applies."}
    )

    def __post_init__(self) -> None:
        self._refuse_token_options()
        self._check_options()
        check_launch("cpu" if self.use_cpu else None, fsdp=bool(self.fsdp), deepspeed=bool(self.deepspeed))
        # TRL's checks assume micro-batches of videos and groups of at least 2. Our micro-batches contain items, which
        # `count_micro_batches` checks, so TRL gets values that pass.
        micro_batch, self.per_device_train_batch_size = self.per_device_train_batch_size, 1
        group_size, self.num_generations = self.num_generations, max(2, self.num_generations)
        self.generation_batch_size = self.prompts_per_rollout_batch * self.num_generations
        # Transformers would call a method that denoisers lack; the trainer asks the backbone instead.
        wanted = bool(self.gradient_checkpointing or getattr(self, "activation_checkpointing", False))
        self.gradient_checkpointing = self.activation_checkpointing = False
        if self.bf16 is None:  # the device decides
            self.bf16 = not self.fp16 and runs_in_bfloat16("auto", _device_type(self.use_cpu))
        super().__post_init__()
        self.recompute_activations = wanted
        self.per_device_train_batch_size, self.num_generations = micro_batch, group_size
        self.generation_batch_size = self.prompts_per_rollout_batch * self.num_generations
        if self.prompts_per_rollout_batch % self.world_size:
            raise UserError(
                f"prompts_per_rollout_batch ({self.prompts_per_rollout_batch}) must be a multiple of the number of "
                "processes "
                f"({self.world_size}), because a group cannot be split between processes."
            )
        self._n_gpu = min(self.n_gpu, 1)  # with more, transformers would wrap the model in DataParallel

    @property
    def prompts_per_process(self) -> int:
        """Groups of a rollout batch on one process."""
        return self.prompts_per_rollout_batch // self.world_size

    def count_micro_batches(self, num_items: int) -> int:
        """Return the number of micro-batches per rollout batch on one process.

        Args:
            num_items: Items per video.

        Raises:
            UserError: The sizes do not divide each other.
        """
        group_size, batch = self.num_generations, self.per_device_train_batch_size
        with _as_user_error():
            check_batch_sizes(
                Spelling.ARGUMENT,
                group_size=group_size,
                num_groups=self.prompts_per_process,
                groups_per_rollout=self.groups_per_rollout,
                micro_batch_size=batch,
            )
        micro_batches = self.prompts_per_process * group_size // batch * num_items
        if micro_batches * self.num_iterations % self.updates_per_rollout_batch:
            raise UserError(
                f"updates_per_rollout_batch ({self.updates_per_rollout_batch}) must divide the "
                f"{micro_batches * self.num_iterations} micro-batches of a rollout batch "
                f"({self.prompts_per_process} groups x {group_size} videos x {num_items} steps / "
                f"{batch} pairs x {self.num_iterations} iterations)."
            )
        return micro_batches

    def _refuse_token_options(self) -> None:
        inherited = {item.name for item in dataclasses.fields(TrainingArguments)}
        for item in dataclasses.fields(GRPOConfig):
            if item.name in SUPPORTED or (item.name in inherited and item.name != "gradient_accumulation_steps"):
                continue
            value = getattr(self, item.name)
            if value != item.default:
                raise UserError(
                    f"{item.name} is not supported: it has no meaning for videos, or is computed from "
                    "prompts_per_rollout_batch, num_generations and updates_per_rollout_batch; received "
                    f"{value!r}. Leave it out."
                )

    def check_steps(self) -> None:
        """Check `max_steps`, once it is known.

        Raises:
            UserError: `max_steps` is not a multiple of `updates_per_rollout_batch`, or the run ends before the first
                update of the average.
        """
        with _as_user_error():
            check_steps("max_steps", self.max_steps, self.updates_per_rollout_batch)
            check_average(Spelling.ARGUMENT, self.max_steps, None if self.ema_decay is None else self.ema_every)

    def _check_options(self) -> None:
        if self.credit == "place":
            warn_renamed("The value of credit", "place", "spatial")
            self.credit = "spatial"
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            is_off = name == "ema_decay" and value is None
            if not (option.inherited or is_off) and (problem := option.problem(value)):
                raise UserError(f"{name} {problem}, received {value!r}.")
        with _as_user_error():
            check_credit(Spelling.ARGUMENT, self.credit, self.multi_objective_aggregation)


@contextlib.contextmanager
def _as_user_error() -> Iterator[None]:
    """Convert `ValueError` to `UserError`; for a manifest, pydantic converts the same errors."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{error}.") from error


def _device_type(use_cpu: bool) -> str:
    """Return the type of the device that transformers will choose."""
    device = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if device is None else device.type
