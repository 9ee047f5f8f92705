"""Pydantic models of the manifest's section `train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from worldr1_core.deprecation import warn_renamed
from worldr1_core.manifest import ComponentSpec, Manifest
from worldr1_core.registry import Registry
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
    """Objective by name, with its weight in the loss. All other keys are options of the objective."""

    kind = "objective"

    weight: float = Field(default=1.0, gt=0, le=1e6, description="Factor of the objective in the loss.")


class NoiseSpec(ComponentSpec):
    """Noise conditioner by name. All other keys are its options."""

    kind = "noise conditioner"


def _read_objective(value: Any) -> Any:
    """Validate a mapping or a list here, so that error messages contain the keys of the manifest.

    Raises:
        ValueError: The value is neither a mapping nor a list.
    """
    if isinstance(value, list) and value:
        return TypeAdapter(list[ObjectiveSpec]).validate_python(value, strict=True)
    if isinstance(value, Mapping):
        return ObjectiveSpec.model_validate(dict(value), strict=True)
    if isinstance(value, BaseModel):
        return value
    raise ValueError(
        "an objective must be a mapping of options (with its name, unless it is flow-grpo) or a list of such mappings"
    )


class StageSection(_Part):
    """One phase of the training cycle (paper, section 4)."""

    steps: int = Field(ge=1, le=10**7, description="Optimiser steps per cycle.")
    prompts: str = Field(default="main", min_length=1, description="Prompt split, a key of the manifest's `prompts`.")
    rewards: Literal["all"] | list[Name] = Field(
        default="all", description="Rewards of the manifest to use in this stage: `all`, or a list of names."
    )
    noise: bool | NoiseSpec = Field(
        default=True,
        description="true: the manifest's noise conditioner; false: plain Gaussian noise; or another noise conditioner "
        "with its options.",
    )
    objective: Annotated[ObjectiveSpec | list[ObjectiveSpec], BeforeValidator(_read_objective)] | None = Field(
        default=None, description="One or several objectives of this stage. Defaults to `train.objective`."
    )


class AdapterSection(_Part):
    """Low-rank adapter (LoRA) that is trained."""

    rank: int = Field(default=32, ge=1, le=4096, description="Rank r.")
    alpha: float = Field(default=64.0, gt=0, le=1e5, description="Scale; the weight update is alpha / r x B A.")
    target_modules: list[Name] | None = Field(
        default=None, min_length=1, description="Linear layers with an adapter. Defaults to the backbone's list."
    )


def _as_tuple(value: Any) -> Any:
    """Convert a YAML list to a tuple, which strict validation requires."""
    return tuple(value) if isinstance(value, list) else value


class OptimiserSection(_Part):
    """AdamW and its learning rate schedule."""

    learning_rate: float = manifest_field("optimiser.learning_rate")
    weight_decay: float = manifest_field("optimiser.weight_decay")
    betas: Annotated[tuple[Decay, Decay], BeforeValidator(_as_tuple)] = Field(
        default=(0.9, 0.999), description="Decay rates of AdamW's two moments, in [0, 1)."
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
        description="Number of final optimiser steps in which `warmup_stable_decay` decays the learning rate linearly "
        "to 0. Defaults to half of all steps.",
    )

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.decay_steps is not None and self.schedule != "warmup_stable_decay":
            raise ValueError(
                f"decay_steps is only supported with schedule warmup_stable_decay, received schedule {self.schedule}; "
                "remove decay_steps or change the schedule"
            )
        return self


class ObjectiveSection(FlowGRPOOptions):
    """Options of the default objective `flow-grpo` (paper, section 3)."""

    name: Literal["flow-grpo"] = Field(default="flow-grpo", exclude=True, description="Name of the objective.")

    @field_validator("credit", mode="before")
    @classmethod
    def _rename_place(cls, value: Any) -> Any:
        if value != "place":
            return value
        warn_renamed("The value of train.objective.credit", "place", "spatial")
        return "spatial"


def _read_main_objective(value: Any) -> Any:
    """Validate like `_read_objective`; a mapping for `flow-grpo` without a `weight` becomes an `ObjectiveSection`."""
    is_mapping = isinstance(value, Mapping)
    if is_mapping and "weight" not in value and value.get("name", "flow-grpo") == "flow-grpo":
        return ObjectiveSection.model_validate(dict(value), strict=True)
    return _read_objective(value)


class EMASection(_Part):
    """Exponential moving average (EMA) of the trained weights, which is evaluated and exported."""

    decay: float = manifest_field("ema.decay")
    every: int = manifest_field("ema.every")


class EvaluationSection(_Part):
    """Evaluation before and after training, on held-out prompts with fixed seeds."""

    prompts: str = Field(default="test", min_length=1, description="Prompt split, a key of the manifest's `prompts`.")
    num_prompts: int | None = Field(
        default=None, ge=1, le=10**6, description="Number of prompts, from the start of the split. Defaults to all."
    )
    num_seeds: int = Field(default=1, ge=1, le=1000, description="Videos per prompt.")
    every: int | None = Field(
        default=None,
        ge=1,
        le=10**7,
        description="Optimiser steps between evaluations during training. By default there are none.",
    )
    metrics: list[Name] | None = Field(
        default=None,
        min_length=1,
        description="Rewards to measure. Defaults to the manifest's rewards and, if installed, `psnr`, "
        "`camera-accuracy`, `gradient-x`, `gradient-y`, `row-variance`, `column-variance` and `sharpness-evenness`.",
    )
    batch_size: int = Field(default=8, ge=1, le=1024, description="Videos generated together.")
    num_shown: int = Field(
        default=6,
        ge=0,
        le=64,
        description="Number of videos written to `videos/` and drawn in `before-after.png`, evenly spaced.",
    )
    num_inference_steps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Sampler steps of evaluation videos. Defaults to the sampler's. Flow-GRPO trains with fewer steps "
        "than it evaluates with.",
    )
    diversity: DiversitySection | None = Field(
        default_factory=DiversitySection,
        description="Diversity of the videos of one prompt over seeds; null disables it.",
    )
    reference_clips: ReferenceClipsSection | None = Field(
        default=None, description="Real clips on which the flow-matching loss is measured; null disables it."
    )
    alarms: AlarmSection | None = Field(
        default_factory=AlarmSection,
        description="Warnings if trained rewards rise while other metrics fall; null disables them.",
    )

    def relative_to(self, folder: Path) -> EvaluationSection:
        """Return a copy whose relative paths start from a folder."""
        if self.reference_clips is None:
            return self
        return self.model_copy(update={"reference_clips": self.reference_clips.relative_to(folder)})


class CheckpointSection(_Part):
    """Checkpoints, from which `--resume` continues."""

    every: int = manifest_field("checkpoints.every")
    keep: int = manifest_field("checkpoints.keep")


class FailureSection(_Part):
    """Handling of failed rewards, and limits beyond which a run stops."""

    refills: int = manifest_field("failures.refills")
    max_share: float = manifest_field("failures.max_share")
    max_loss: float = manifest_field("failures.max_loss")


class SampleSection(_Part):
    """Rollout videos that are written during training."""

    every: int = manifest_field("samples.every")
    num_videos: int = manifest_field("samples.num_videos")


RENAMED_KEYS = {
    "prompts_per_block": "prompts_per_rollout_batch",
    "updates_per_block": "updates_per_rollout_batch",
}
"""Deprecated key of the section -> current key."""


class TrainSection(_Part):
    """Settings of post-training. Defaults are the values of World-R1."""

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
        description="Total number of optimiser steps; the cycle of stages is repeated. Defaults to one cycle.",
    )
    stages: list[StageSection] = Field(min_length=1, max_length=100, description="Stages of the training cycle.")
    adapter: AdapterSection | None = Field(
        default_factory=AdapterSection, description="Adapter to train; null trains every weight of the denoisers."
    )
    optimiser: OptimiserSection = Field(
        default_factory=OptimiserSection, description="Optimiser and learning rate schedule."
    )
    objective: Annotated[
        ObjectiveSection | ObjectiveSpec | list[ObjectiveSpec], BeforeValidator(_read_main_objective)
    ] = Field(
        default_factory=ObjectiveSection,
        description="Objective: the options of `flow-grpo`, or the `name` of a registered objective with its options, "
        "or a list of these with a `weight` each.",
    )
    ema: EMASection | None = Field(
        default_factory=EMASection, description="Moving average of the weights; null disables it."
    )
    precision: Precision = manifest_field("precision")
    gradient_checkpointing: bool = manifest_field("gradient_checkpointing")
    async_rewards: bool = manifest_field("async_rewards")
    chunks_ahead: int = manifest_field("chunks_ahead")
    evaluation: EvaluationSection | None = Field(
        default_factory=EvaluationSection, description="Evaluation before and after training; null disables it."
    )
    checkpoints: CheckpointSection = Field(default_factory=CheckpointSection, description="Checkpoints.")
    failures: FailureSection = Field(
        default_factory=FailureSection, description="Handling of failed rewards, and limits beyond which a run stops."
    )
    samples: SampleSection = Field(default_factory=SampleSection, description="Sample videos.")
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list, description="Experiment trackers, in addition to `metrics.jsonl`."
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

    def check_manifest(self, path: Path, manifest: Manifest, registry: Registry) -> None:
        """Check that a manifest with this section can be trained; `worldr1 validate` calls it.

        Raises:
            UserError: It cannot.
        """
        from worldr1_train.plan import check_manifest

        check_manifest(path, manifest, self, registry)

    @property
    def total_steps(self) -> int:
        """Total number of optimiser steps."""
        return self.max_steps or sum(stage.steps for stage in self.stages)

    @property
    def decay_steps(self) -> int:
        """Number of final optimiser steps in which `warmup_stable_decay` decays the learning rate."""
        return self.optimiser.decay_steps or max(1, self.total_steps // 2)
