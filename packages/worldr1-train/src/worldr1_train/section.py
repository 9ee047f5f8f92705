"""The manifest's section `train`: what a run does, in the words of its users."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from worldr1_core.deprecation import warn_renamed
from worldr1_core.manifest import ComponentSpec
from worldr1_train.held_out_section import AlarmSection, DiversitySection, ReferenceClipsSection
from worldr1_train.objective_options import FlowGRPOOptions
from worldr1_train.option_checks import Spelling, check_average, check_batch_sizes, check_steps
from worldr1_train.options import manifest_field
from worldr1_train.precision import Precision

Name = Annotated[str, Field(min_length=1, max_length=200)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectiveSpec(ComponentSpec):
    """An objective by name, with its share in the loss; every other key is an option of it."""

    weight: float = Field(default=1.0, gt=0, le=1e6, description="Factor in the loss.")


def _read_objective(value: Any) -> Any:
    """Objectives by their names, so that mistakes are told by the keys that the manifest has.

    Raises:
        ValueError: The value has another form.
    """
    if isinstance(value, list) and value:
        return TypeAdapter(list[ObjectiveSpec]).validate_python(value, strict=True)
    if isinstance(value, Mapping):
        return ObjectiveSpec.model_validate(dict(value), strict=True)
    if isinstance(value, BaseModel):
        return value
    raise ValueError("an objective is a mapping of options, with its name unless it is flow-grpo, or a list of these")


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
    objective: Annotated[ObjectiveSpec | list[ObjectiveSpec], BeforeValidator(_read_objective)] | None = Field(
        default=None, description="Objective of this stage, or several; `train.objective` if left out."
    )


class AdapterSection(_Part):
    """Low-rank adapter (LoRA) that is trained."""

    rank: int = Field(default=32, ge=1, le=4096, description="Rank r.")
    alpha: float = Field(default=64.0, gt=0, le=1e5, description="Scale; the update is alpha / r x B A.")
    target_modules: list[Name] | None = Field(
        default=None, min_length=1, description="Linear layers that it goes on; the backbone's own list if left out."
    )


def _as_tuple(value: Any) -> Any:
    """A list of YAML as the tuple that strict validation of Python values asks for."""
    return tuple(value) if isinstance(value, list) else value


class OptimiserSection(_Part):
    """AdamW and its schedule."""

    learning_rate: float = manifest_field("optimiser.learning_rate")
    weight_decay: float = manifest_field("optimiser.weight_decay")
    betas: Annotated[tuple[Decay, Decay], BeforeValidator(_as_tuple)] = Field(
        default=(0.9, 0.999), description="Decay of the two moments, in [0, 1)."
    )
    max_grad_norm: float = manifest_field("optimiser.max_grad_norm")
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine", "warmup_stable_decay"] = manifest_field(
        "optimiser.schedule"
    )
    warmup_steps: int = manifest_field("optimiser.warmup_steps")
    decay_steps: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="Last optimiser steps, in which `warmup_stable_decay` lets the learning rate fall linearly to 0; "
        "half of all if left out.",
    )

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.decay_steps is not None and self.schedule != "warmup_stable_decay":
            raise ValueError(
                f"decay_steps belongs to schedule warmup_stable_decay, received schedule {self.schedule}; "
                "change one of the two"
            )
        return self


class ObjectiveSection(FlowGRPOOptions):
    """Flow-GRPO's objective (paper, section 3)."""

    name: Literal["flow-grpo"] = Field(default="flow-grpo", exclude=True, description="Name of the objective.")

    @field_validator("credit", mode="before")
    @classmethod
    def _rename_place(cls, value: Any) -> Any:
        if value != "place":
            return value
        warn_renamed("The value of train.objective.credit", "place", "spatial")
        return "spatial"


def _read_main_objective(value: Any) -> Any:
    """Likewise, or by the options of `flow-grpo` alone."""
    is_mapping = isinstance(value, Mapping)
    if is_mapping and "weight" not in value and value.get("name", "flow-grpo") == "flow-grpo":
        return ObjectiveSection.model_validate(dict(value), strict=True)
    return _read_objective(value)


class EMASection(_Part):
    """Moving average of the trained weights; it is what is evaluated and exported."""

    decay: float = manifest_field("ema.decay")
    every: int = manifest_field("ema.every")


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
        description="Rewards that are measured; if left out, the manifest's, and `psnr`, `camera-accuracy`, "
        "`gradient-x`, `gradient-y`, `row-variance` and `column-variance` where they are installed.",
    )
    batch_size: int = Field(default=8, ge=1, le=1024, description="Videos made together.")
    num_shown: int = Field(
        default=6,
        ge=0,
        le=64,
        description="Videos, evenly spaced, that are written to `videos/` and drawn in `before-after.png`.",
    )
    num_inference_steps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Steps of an evaluated video; if left out, the sampler's. Flow-GRPO trains on fewer steps than it "
        "evaluates with.",
    )
    diversity: DiversitySection | None = Field(
        default_factory=DiversitySection,
        description="How far apart videos of one prompt with different seeds are; null switches it off.",
    )
    reference_clips: ReferenceClipsSection | None = Field(
        default=None, description="True clips, on which the flow-matching loss is measured."
    )
    alarms: AlarmSection | None = Field(
        default_factory=AlarmSection,
        description="When to warn that trained rewards rise while other metrics fall; null switches it off.",
    )

    def relative_to(self, folder: Path) -> EvaluationSection:
        """The same with paths that start from a folder."""
        if self.reference_clips is None:
            return self
        return self.model_copy(update={"reference_clips": self.reference_clips.relative_to(folder)})


class CheckpointSection(_Part):
    """Checkpoints, from which `--resume` goes on."""

    every: int = manifest_field("checkpoints.every")
    keep: int = manifest_field("checkpoints.keep")


class FailureSection(_Part):
    """What is done about rewards that fail, and when a run stops instead of training on nothing."""

    refills: int = manifest_field("failures.refills")
    max_share: float = manifest_field("failures.max_share")
    max_loss: float = manifest_field("failures.max_loss")


class SampleSection(_Part):
    """Videos of the rollouts, written as the run goes."""

    every: int = manifest_field("samples.every")
    num_videos: int = manifest_field("samples.num_videos")


RENAMED_KEYS = {
    "prompts_per_block": "prompts_per_rollout_batch",
    "updates_per_block": "updates_per_rollout_batch",
}
"""Keys of the section under their old names, which warn."""


class TrainSection(_Part):
    """How the model is post-trained; defaults are the constants of World-R1."""

    group_size: int = manifest_field("group_size")
    prompts_per_rollout_batch: int = manifest_field("prompts_per_rollout_batch")
    groups_per_rollout: int = manifest_field("groups_per_rollout")
    micro_batch_size: int = manifest_field("micro_batch_size")
    updates_per_rollout_batch: int = manifest_field("updates_per_rollout_batch")
    num_iterations: int = manifest_field("num_iterations")
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
    objective: Annotated[
        ObjectiveSection | ObjectiveSpec | list[ObjectiveSpec], BeforeValidator(_read_main_objective)
    ] = Field(
        default_factory=ObjectiveSection,
        description="Objective: the options of `flow-grpo`, or the `name` of a registered one with its options, or "
        "a list of these with their `weight`.",
    )
    ema: EMASection | None = Field(
        default_factory=EMASection, description="Moving average of the weights; null for none."
    )
    precision: Precision = manifest_field("precision")
    gradient_checkpointing: bool = manifest_field("gradient_checkpointing")
    async_rewards: bool = manifest_field("async_rewards")
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
        check_batch_sizes(
            Spelling.MANIFEST,
            group_size=self.group_size,
            num_groups=self.prompts_per_rollout_batch,
            groups_per_rollout=self.groups_per_rollout,
            micro_batch_size=self.micro_batch_size,
        )
        for index, stage in enumerate(self.stages):
            check_steps(f"stages.{index}.steps", stage.steps, self.updates_per_rollout_batch)
        check_steps("max_steps", self.max_steps or 0, self.updates_per_rollout_batch)
        check_average(Spelling.MANIFEST, self.total_steps, None if self.ema is None else self.ema.every)
        schedule_steps = self.optimiser.warmup_steps + self.decay_steps
        if self.optimiser.schedule == "warmup_stable_decay" and schedule_steps > self.total_steps:
            raise ValueError(
                f"optimiser.warmup_steps ({self.optimiser.warmup_steps}) and decay_steps ({self.decay_steps}) exceed "
                f"the {self.total_steps} steps of the run; lower one of them"
            )
        return self

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run."""
        return self.max_steps or sum(stage.steps for stage in self.stages)

    @property
    def decay_steps(self) -> int:
        """Last optimiser steps, in which `warmup_stable_decay` lets the learning rate fall."""
        return self.optimiser.decay_steps or max(1, self.total_steps // 2)
