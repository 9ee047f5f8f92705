"""A training plan as the arguments of `FlowGRPOTrainer`."""

from __future__ import annotations

from typing import Any

from worldr1_core.backbone import AdapterSpec
from worldr1_core.compose import resolve_device
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.plan import TrainingPlan
from worldr1_train.section import AdapterSection, TrainSection
from worldr1_train.seeds import run_seed

AGGREGATIONS = {"weighted-sum": "sum_then_normalize", "gdpo": "normalize_then_sum"}
IN_BFLOAT16 = {"auto": None, "float32": False, "bfloat16": True}
"""Precision of a manifest -> the training argument `bf16`."""


def trainer_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """The keyword arguments of `FlowGRPOTrainer` that a plan stands for."""
    manifest, section = plan.manifest, plan.section
    return {
        "backbone": manifest.backbone,
        "rewards": manifest,
        "args": make_arguments(plan),
        "prompts": plan.prompts,
        "sampler": manifest.sampler,
        "noise": manifest.noise,
        "stages": section.stages,
        "adapter": False if section.adapter is None else _adapter_spec(section.adapter, manifest.seed),
        "evaluation": section.evaluation,
        "registry": plan.registry,
    }


def _adapter_spec(adapter: AdapterSection, seed: int) -> AdapterSpec:
    targets = None if adapter.target_modules is None else tuple(adapter.target_modules)
    return AdapterSpec(adapter.rank, adapter.alpha, target_modules=targets, seed=seed)


def make_arguments(plan: TrainingPlan) -> FlowGRPOConfig:
    """The training arguments that a plan stands for."""
    section: TrainSection = plan.section
    optimiser, objective = section.optimiser, section.objective
    return FlowGRPOConfig(
        output_dir=str(plan.output_dir),
        seed=run_seed(plan.manifest),
        max_steps=section.total_steps,
        num_generations=section.group_size,
        prompts_per_rollout_batch=section.prompts_per_rollout_batch,
        groups_per_rollout=section.groups_per_rollout,
        per_device_train_batch_size=section.micro_batch_size,
        updates_per_rollout_batch=section.updates_per_rollout_batch,
        num_iterations=section.num_iterations,
        learning_rate=optimiser.learning_rate,
        weight_decay=optimiser.weight_decay,
        adam_beta1=optimiser.betas[0],
        adam_beta2=optimiser.betas[1],
        max_grad_norm=optimiser.max_grad_norm,
        lr_scheduler_type=optimiser.schedule,
        warmup_steps=optimiser.warmup_steps,
        epsilon=objective.clip,
        beta=objective.kl,
        advantage_clip=objective.advantage_clip,
        multi_objective_aggregation=AGGREGATIONS[objective.aggregation],
        credit=objective.credit,
        ema_decay=None if section.ema is None else section.ema.decay,
        ema_every=1 if section.ema is None else section.ema.every,
        full_finetuning=section.adapter is None,
        bf16=IN_BFLOAT16[section.precision],
        gradient_checkpointing=section.gradient_checkpointing,
        async_rewards=section.async_rewards,
        max_failed_share=section.failures.max_share,
        max_loss=section.failures.max_loss,
        num_sample_videos=section.samples.num_videos,
        sample_videos_every=section.samples.every,
        save_strategy="steps",
        save_steps=section.checkpoints.every,
        save_total_limit=section.checkpoints.keep,
        report_to=list(section.report_to) or "none",
        use_cpu=resolve_device(plan.manifest.device) == "cpu",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
