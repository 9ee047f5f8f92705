"""The manifest's section `train`: what a run does, in the words of its users."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from worldr1_core.deprecation import warn_renamed
from worldr1_core.manifest import ComponentSpec
from worldr1_train.precision import Precision

Name = Annotated[str, Field(min_length=1, max_length=200)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSection(_Part):
    """One phase of the training cycle (paper, section 4)."""

    steps: int = Field(ge=1, le=10**7, description="Optimiser steps a cycle.")
    prompts: str = Field(default="main", min_length=1, description="Split, a key of the manifest's `prompts`.")
    rewards: Literal["all"] | list[Name] = Field(
        default="all", description="Rewards of the manifest that count in this stage: `all`, or their names."
    )
    noise: bool | ComponentSpec = Field(
        default=True,
        description="The manifest's noise conditioner: on, off (white noise), or another one with its options.",
    )


class AdapterSection(_Part):
    """Low-rank adapter (LoRA) that is trained."""

    rank: int = Field(default=32, ge=1, le=4096, description="Rank r.")
    alpha: float = Field(default=64.0, gt=0, le=1e5, description="Scale; the update is alpha / r x B A.")
    target_modules: list[Name] | None = Field(
        default=None, min_length=1, description="Linear layers that it goes on; the backbone's own list if left out."
    )


class OptimiserSection(_Part):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-4, gt=0, le=1, description="Learning rate.")
    weight_decay: float = Field(default=1e-4, ge=0, le=1, description="Weight decay.")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="Decay of the two moments, in [0, 1).")
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1e6, description="Norm to which gradients are clipped; 0 for none."
    )
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = Field(
        default="constant", description="Course of the learning rate."
    )
    warmup_steps: int = Field(default=0, ge=0, le=10**6, description="Optimiser steps until the full learning rate.")


class ObjectiveSection(_Part):
    """Flow-GRPO's objective (paper, section 3)."""

    clip: float = Field(default=1e-3, gt=0, lt=1, description="How far the probability ratio may leave 1.")
    kl: float = Field(
        default=0.004, ge=0, le=1e6, description="Weight of the KL divergence to the model before training."
    )
    advantage_clip: float = Field(default=5.0, gt=0, le=1e3, description="Bound of the absolute advantage.")
    aggregation: Literal["weighted-sum", "gdpo"] = Field(
        default="weighted-sum",
        description="How rewards become one advantage: normalise their weighted sum within the group, or each of them "
        "first (GDPO).",
    )
    credit: Literal["video", "spatial"] = Field(
        default="video",
        description="Who earns a reward: the video as a whole, or half of it the places of the picture where it was "
        "earned, for rewards that say so (needs GDPO).",
    )

    @field_validator("credit", mode="before")
    @classmethod
    def _rename_place(cls, value: Any) -> Any:
        if value != "place":
            return value
        warn_renamed("The value of train.objective.credit", "place", "spatial")
        return "spatial"

    @model_validator(mode="after")
    def _spatial_credit_needs_gdpo(self) -> Self:
        if self.credit == "spatial" and self.aggregation != "gdpo":
            raise ValueError(f"credit 'spatial' needs aggregation 'gdpo', received {self.aggregation!r}")
        return self


class EMASection(_Part):
    """Moving average of the trained weights; it is what is evaluated and exported."""

    decay: float = Field(default=0.9, ge=0, lt=1, description="Weight of the average against new values.")
    every: int = Field(default=8, ge=1, le=10**6, description="Optimiser steps from one update to the next.")


class EvaluationSection(_Part):
    """Before and after training, on prompts that are not trained on, with fixed seeds."""

    prompts: str = Field(default="test", min_length=1, description="Split, a key of the manifest's `prompts`.")
    num_prompts: int | None = Field(
        default=None, ge=1, le=10**6, description="The first so many of them; all if left out."
    )
    num_seeds: int = Field(default=1, ge=1, le=1000, description="Videos a prompt.")
    every: int | None = Field(default=None, ge=1, le=10**7, description="Also every so many optimiser steps.")
    metrics: list[Name] | None = Field(
        default=None,
        min_length=1,
        description="Rewards that are measured; if left out, the manifest's, and `psnr` and `camera-accuracy` where "
        "they are installed.",
    )
    batch_size: int = Field(default=8, ge=1, le=1024, description="Videos made together.")
    num_inference_steps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Steps of an evaluated video; if left out, the sampler's. Flow-GRPO trains on fewer steps than it "
        "evaluates with.",
    )


class CheckpointSection(_Part):
    """Checkpoints, from which `--resume` goes on."""

    every: int = Field(
        default=50, ge=1, le=10**7, description="Optimiser steps from one to the next; the last is always kept."
    )
    keep: int = Field(default=2, ge=1, le=1000, description="How many are kept.")


class FailureSection(_Part):
    """When a run stops instead of training on nothing."""

    max_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of a rollout batch's samples whose rewards may fail."
    )
    max_loss: float = Field(default=100.0, gt=0, le=1e9, description="Absolute loss of an optimiser step.")


class SampleSection(_Part):
    """Videos of the rollouts, written as the run goes."""

    every: int = Field(default=50, ge=1, le=10**7, description="Optimiser steps from one writing to the next.")
    num_videos: int = Field(default=2, ge=0, le=64, description="How many.")


RENAMED_KEYS = {
    "prompts_per_block": "prompts_per_rollout_batch",
    "updates_per_block": "updates_per_rollout_batch",
}
"""Keys of the section under their old names, which warn."""


class TrainSection(_Part):
    """How the model is post-trained; defaults are the constants of World-R1."""

    group_size: int = Field(
        default=8, ge=2, le=1024, description="Videos of a group, which share a prompt and a prefix: G."
    )
    prompts_per_rollout_batch: int = Field(
        default=1,
        ge=1,
        le=10**5,
        description="Groups of a rollout batch, over all processes; a multiple of their number.",
    )
    groups_per_rollout: int = Field(
        default=1, ge=1, le=10**4, description="Groups that are denoised together on a process."
    )
    micro_batch_size: int = Field(
        default=1, ge=1, le=10**4, description="(video, timestep) pairs of one forward and backward pass on a process."
    )
    updates_per_rollout_batch: int = Field(
        default=1, ge=1, le=10**5, description="Optimiser steps from one rollout batch."
    )
    num_iterations: int = Field(default=1, ge=1, le=100, description="Passes over a rollout batch.")
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=10**7,
        description="Optimiser steps in all; the stages come again and again. One cycle if left out.",
    )
    stages: list[StageSection] = Field(min_length=1, max_length=100, description="The cycle.")
    adapter: AdapterSection | None = Field(
        default_factory=AdapterSection, description="Adapter that is trained; null for every weight of the denoisers."
    )
    optimiser: OptimiserSection = Field(default_factory=OptimiserSection, description="Optimiser.")
    objective: ObjectiveSection = Field(default_factory=ObjectiveSection, description="Objective.")
    ema: EMASection | None = Field(
        default_factory=EMASection, description="Moving average of the weights; null for none."
    )
    precision: Precision = Field(
        default="auto", description="Arithmetic of the denoisers: auto is bfloat16 on a GPU and float32 on the CPU."
    )
    gradient_checkpointing: bool = Field(
        default=True,
        description="Compute activations again in the backward pass: less memory, about a third more time.",
    )
    async_rewards: bool = Field(default=True, description="Score a chunk of rollouts while the next is sampled.")
    evaluation: EvaluationSection | None = Field(
        default_factory=EvaluationSection, description="Before and after; null for none."
    )
    checkpoints: CheckpointSection = Field(default_factory=CheckpointSection, description="Checkpoints.")
    failures: FailureSection = Field(default_factory=FailureSection, description="When to stop.")
    samples: SampleSection = Field(default_factory=SampleSection, description="Sample videos.")
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="Trackers, besides `metrics.jsonl`."
    )

    @model_validator(mode="before")
    @classmethod
    def _rename_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for old, new in RENAMED_KEYS.items():
            if old in value and new not in value:
                warn_renamed("The key of train", old, new)
                value[new] = value.pop(old)
        return value

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        chunk = self.groups_per_rollout * self.group_size
        if self.prompts_per_rollout_batch % self.groups_per_rollout:
            raise ValueError(
                f"groups_per_rollout ({self.groups_per_rollout}) must divide prompts_per_rollout_batch "
                f"({self.prompts_per_rollout_batch})"
            )
        if chunk % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size ({self.micro_batch_size}) must divide groups_per_rollout x group_size ({chunk})"
            )
        for index, stage in enumerate(self.stages):
            if stage.steps % self.updates_per_rollout_batch:
                raise ValueError(
                    f"stages.{index}.steps ({stage.steps}) must be a multiple of updates_per_rollout_batch "
                    f"({self.updates_per_rollout_batch})"
                )
        if (self.max_steps or 0) % self.updates_per_rollout_batch:
            raise ValueError(
                f"max_steps ({self.max_steps}) must be a multiple of updates_per_rollout_batch "
                f"({self.updates_per_rollout_batch})"
            )
        if self.ema is not None and self.total_steps < self.ema.every:
            raise ValueError(
                f"the run ends after {self.total_steps} steps, before ema.every ({self.ema.every}): the average, which "
                "is exported, would be the untrained model. Lower ema.every, or set ema to null"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run."""
        return self.max_steps or sum(stage.steps for stage in self.stages)
