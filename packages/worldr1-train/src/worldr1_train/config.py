"""The training arguments: TRL's `GRPOConfig` with the defaults of World-R1, less what only makes sense for tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from trl import GRPOConfig

from worldr1_core.deprecation import warn_renamed
from worldr1_core.errors import UserError
from worldr1_train.launch import check_launch
from worldr1_train.precision import runs_in_bfloat16

SUPPORTED = frozenset(
    {
        *("learning_rate", "num_generations", "beta", "num_iterations", "epsilon", "epsilon_high"),
        *("multi_objective_aggregation", "remove_unused_columns", "disable_dropout"),
    }
)
"""Fields that TRL adds to `transformers.TrainingArguments` and that mean the same here."""

AGGREGATIONS = ("sum_then_normalize", "normalize_then_sum")
CREDITS = ("video", "spatial")


@dataclass
class FlowGRPOConfig(GRPOConfig):
    r"""Arguments of [`FlowGRPOTrainer`]; those of [`~trl.GRPOConfig`] that concern tokens or vLLM are refused.

    A rollout batch holds `prompts_per_rollout_batch` groups of `num_generations` videos over all processes. It is
    updated from in micro-batches of `per_device_train_batch_size` (video, timestep) pairs, in
    `updates_per_rollout_batch` optimiser steps; gradient accumulation follows from these numbers. Defaults are the
    constants of World-R1.

    Parameters:
        prompts_per_rollout_batch (`int`, *optional*, defaults to `1`): Groups of a rollout_batch, over all processes.
        updates_per_rollout_batch (`int`, *optional*, defaults to `1`): Optimiser steps from one rollout batch.
        groups_per_rollout (`int`, *optional*, defaults to `1`): Groups that are denoised together on a process.
        credit (`str`, *optional*, defaults to `"video"`): `"video"`, or `"spatial"` to credit places of the picture.
        advantage_clip (`float`, *optional*, defaults to `5.0`): Bound of the advantages.
        ema_decay (`float`, *optional*, defaults to `0.9`): Decay of the average of the weights; `None` for none.
        ema_every (`int`, *optional*, defaults to `8`): Optimiser steps from one update of it to the next.
        full_finetuning (`bool`, *optional*, defaults to `False`): Train every weight, in float32, without an adapter.
        async_rewards (`bool`, *optional*, defaults to `True`): Score a chunk while the next is sampled.
        max_failed_share (`float`, *optional*, defaults to `0.5`): Failed share of a rollout batch above which a run
            stops.
        max_loss (`float`, *optional*, defaults to `100.0`): |loss| of an optimiser step above which a run stops.
        num_sample_videos (`int`, *optional*, defaults to `1`): Videos of a rollout batch that are written.
        sample_videos_every (`int`, *optional*, defaults to `50`): Optimiser steps from one writing to the next.
    """

    learning_rate: float = field(default=1e-4, metadata={"help": "Initial learning rate of AdamW."})
    per_device_train_batch_size: int = field(
        default=1, metadata={"help": "(video, timestep) pairs of a micro-batch on one process."}
    )
    gradient_checkpointing: bool = field(
        default=True, metadata={"help": "Compute activations again in the backward pass, to save memory."}
    )
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of AdamW."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Norm to which gradients are clipped."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Learning rate schedule."})
    logging_steps: float = field(default=1, metadata={"help": "Optimiser steps from one log to the next."})
    num_generations: int = field(default=8, metadata={"help": "Videos of a group, the G of GRPO."})
    epsilon: float = field(default=1e-3, metadata={"help": "How far the probability ratio may leave 1."})
    beta: float = field(default=0.004, metadata={"help": "Weight of the KL divergence to the reference."})
    multi_objective_aggregation: str = field(
        default="sum_then_normalize",
        metadata={
            "help": "How several rewards become one advantage: 'sum_then_normalize' normalises the weighted sum within "
            "the group, 'normalize_then_sum' normalises each reward first (GDPO)."
        },
    )
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "Has no effect here."})

    prompts_per_rollout_batch: int = field(
        default=1, metadata={"help": "Groups of a rollout batch, over all processes; a multiple of their number."}
    )
    updates_per_rollout_batch: int = field(default=1, metadata={"help": "Optimiser steps from one rollout batch."})
    groups_per_rollout: int = field(
        default=1, metadata={"help": "Groups that are denoised together on one process; lower it to save memory."}
    )
    credit: str = field(
        default="video",
        metadata={
            "help": "Who earns a reward: 'video', the video as a whole; 'spatial', half of it the places of the "
            "picture where it was earned, for rewards that say so. Needs 'normalize_then_sum'."
        },
    )
    advantage_clip: float = field(default=5.0, metadata={"help": "Bound of the absolute advantage."})
    ema_decay: float | None = field(
        default=0.9, metadata={"help": "Decay of the moving average of the weights, which is exported; None for none."}
    )
    ema_every: int = field(default=8, metadata={"help": "Optimiser steps from one update of the average to the next."})
    full_finetuning: bool = field(
        default=False, metadata={"help": "Train every weight of the denoisers in float32 instead of an adapter."}
    )
    async_rewards: bool = field(
        default=True, metadata={"help": "Score a chunk of rollouts in a thread while the next is sampled."}
    )
    max_failed_share: float = field(
        default=0.5,
        metadata={"help": "Share of a rollout batch's samples whose rewards may fail before the run stops."},
    )
    max_loss: float = field(
        default=100.0, metadata={"help": "Absolute loss of an optimiser step above which the run stops."}
    )
    num_sample_videos: int = field(
        default=1, metadata={"help": "Videos of a rollout batch that are written, 0 for none."}
    )
    sample_videos_every: int = field(
        default=50, metadata={"help": "Optimiser steps from one writing of sample videos to the next."}
    )

    recompute_activations: bool = field(
        init=False, default=False, metadata={"help": "What gradient_checkpointing asked for; the backbone does it."}
    )

    def __post_init__(self) -> None:
        self._refuse_token_options()
        self._check_counts()
        check_launch("cpu" if self.use_cpu else None, fsdp=bool(self.fsdp), deepspeed=bool(self.deepspeed))
        self.generation_batch_size = self.prompts_per_rollout_batch * self.num_generations
        # TRL's own check concerns videos a micro-batch; ours are pairs, and `derive_accumulation` checks them.
        micro_batch, self.per_device_train_batch_size = self.per_device_train_batch_size, 1
        # Transformers would call a method that denoisers lack; the trainer asks the backbone instead.
        wanted = bool(self.gradient_checkpointing or getattr(self, "activation_checkpointing", False))
        self.gradient_checkpointing = self.activation_checkpointing = False
        if self.bf16 is None:
            self.bf16 = not self.fp16 and runs_in_bfloat16("auto", _device_type(self.use_cpu))
        super().__post_init__()
        self.recompute_activations = wanted
        self.per_device_train_batch_size = micro_batch
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

    def derive_accumulation(self, window: int) -> int:
        """Micro-batches of a rollout batch on one process, for a window of so many steps; sets gradient accumulation.

        Raises:
            UserError: The sizes do not divide each other.
        """
        group_size, batch = self.num_generations, self.per_device_train_batch_size
        if self.prompts_per_process % self.groups_per_rollout:
            raise UserError(
                f"groups_per_rollout ({self.groups_per_rollout}) must divide the {self.prompts_per_process} groups of "
                "a rollout batch on each process."
            )
        chunk = self.groups_per_rollout * group_size
        if chunk % batch:
            raise UserError(
                f"The micro-batch ({batch} pairs) must divide the {chunk} videos that are denoised together "
                f"(groups_per_rollout {self.groups_per_rollout} x group size {group_size})."
            )
        micro_batches = self.prompts_per_process * group_size // batch * window
        if micro_batches * self.num_iterations % self.updates_per_rollout_batch:
            raise UserError(
                f"updates_per_rollout_batch ({self.updates_per_rollout_batch}) must divide the "
                f"{micro_batches * self.num_iterations} micro-batches of a rollout batch "
                f"({self.prompts_per_process} groups x {group_size} videos x {window} steps / "
                f"{batch} pairs x {self.num_iterations} iterations)."
            )
        self.gradient_accumulation_steps = micro_batches * self.num_iterations // self.updates_per_rollout_batch
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

    def _check_counts(self) -> None:
        least = {
            "prompts_per_rollout_batch": 1,
            "updates_per_rollout_batch": 1,
            "groups_per_rollout": 1,
            "per_device_train_batch_size": 1,
            "num_iterations": 1,
            "num_generations": 2,
            "ema_every": 1,
            "num_sample_videos": 0,
            "sample_videos_every": 1,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < minimum:
                raise UserError(f"{name} must be a whole number of at least {minimum}, received {value!r}.")
        if self.multi_objective_aggregation not in AGGREGATIONS:
            raise UserError(
                f"multi_objective_aggregation must be one of {AGGREGATIONS}, "
                f"received {self.multi_objective_aggregation!r}."
            )
        if self.credit == "place":
            warn_renamed("The value of credit", "place", "spatial")
            self.credit = "spatial"
        if self.credit not in CREDITS:
            raise UserError(f"credit must be one of {CREDITS}, received {self.credit!r}.")
        if self.credit == "spatial" and self.multi_objective_aggregation != "normalize_then_sum":
            raise UserError(
                "credit 'spatial' needs multi_objective_aggregation 'normalize_then_sum', "
                f"received {self.multi_objective_aggregation!r}."
            )
        for name in ("epsilon", "beta", "advantage_clip", "max_loss"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must not be negative, received {getattr(self, name)!r}.")
        if not 0 <= self.max_failed_share <= 1:
            raise UserError(f"max_failed_share must lie in [0, 1], received {self.max_failed_share!r}.")


def _device_type(use_cpu: bool) -> str:
    """Type of the device that transformers chooses."""
    device = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if device is None else device.type
