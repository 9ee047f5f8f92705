"""The training arguments: TRL's `GRPOConfig` with the defaults of World-R1, less what only makes sense for tokens."""

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
"""Fields that TRL adds to `transformers.TrainingArguments` and that mean the same here."""


@dataclass
class FlowGRPOConfig(GRPOConfig):
    r"""Arguments of [`FlowGRPOTrainer`]; those of [`~trl.GRPOConfig`] that concern tokens or vLLM are refused.

    A rollout batch holds `prompts_per_rollout_batch` groups of `num_generations` videos over all processes. It is
    updated from in micro-batches of `per_device_train_batch_size` (video, timestep) pairs, in
    `updates_per_rollout_batch` optimiser steps; gradient accumulation follows from these numbers. Defaults are the
    constants of World-R1.

    The options, their bounds and their keys in a manifest are those of `worldr1_train.options`; what follows from the
    device (`bf16`) or from several numbers (gradient accumulation) need not be given.
    """

    learning_rate: float = argument_field("learning_rate")
    per_device_train_batch_size: int = argument_field("per_device_train_batch_size")
    gradient_checkpointing: bool = argument_field("gradient_checkpointing")
    weight_decay: float = argument_field("weight_decay")
    max_grad_norm: float = argument_field("max_grad_norm")
    lr_scheduler_type: str = argument_field("lr_scheduler_type")
    logging_steps: float = field(default=1, metadata={"help": "Optimiser steps from one log to the next."})
    num_generations: int = argument_field("num_generations")
    epsilon: float = argument_field("epsilon")
    beta: float = argument_field("beta")
    multi_objective_aggregation: str = argument_field("multi_objective_aggregation")
    bf16: bool | None = field(
        default=None, metadata={"help": "Run denoisers in bfloat16; on a GPU but not on the CPU if left out."}
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
    max_failed_share: float = argument_field("max_failed_share")
    max_refills: int = argument_field("max_refills")
    max_loss: float = argument_field("max_loss")
    num_sample_videos: int = argument_field("num_sample_videos")
    sample_videos_every: int = argument_field("sample_videos_every")

    recompute_activations: bool = field(
        init=False, default=False, metadata={"help": "What gradient_checkpointing asked for; the backbone does it."}
    )

    def __post_init__(self) -> None:
        self._refuse_token_options()
        self._check_options()
        check_launch("cpu" if self.use_cpu else None, fsdp=bool(self.fsdp), deepspeed=bool(self.deepspeed))
        # TRL's own checks concern videos a micro-batch, and groups of any objective; ours are items, which
        # `count_micro_batches` checks.
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
                f"({self.world_size}), so that no group is torn apart."
            )
        self._n_gpu = min(self.n_gpu, 1)  # several GPUs in one process would be wrapped in DataParallel

    @property
    def prompts_per_process(self) -> int:
        """Groups of a rollout batch on one process."""
        return self.prompts_per_rollout_batch // self.world_size

    def count_micro_batches(self, num_items: int) -> int:
        """Micro-batches of a rollout batch on one process, for so many items of every video.

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
                    f"{item.name} has no meaning for videos, or follows from prompts_per_rollout_batch, "
                    f"num_generations and updates_per_rollout_batch; received {value!r}. Leave it out."
                )

    def check_steps(self) -> None:
        """Check the number of steps, once it is known.

        Raises:
            UserError: `max_steps` leaves a rollout batch unfinished, or ends before the first update of the average.
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
    """Mistakes in options as errors of the user; pydantic makes its own of them for a manifest."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{error}.") from error


def _device_type(use_cpu: bool) -> str:
    """Type of the device that transformers chooses."""
    device = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if device is None else device.type
