"""Conversion of a training plan to the arguments of `FlowGRPOTrainer`."""

from __future__ import annotations

from typing import Any

from worldr1_core.backbone import AdapterSpec
from worldr1_core.compose import resolve_device
from worldr1_core.errors import UserError
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.options import read_section
from worldr1_train.plan import TrainingPlan
from worldr1_train.section import AdapterSection, TrainSection
from worldr1_train.seeds import run_seed


def trainer_arguments(plan: TrainingPlan) -> dict[str, Any]:
    """Return the keyword arguments of `FlowGRPOTrainer` for a plan."""
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
        "evaluation": plan.evaluation,
        "objective": section.objective,
        "registry": plan.registry,
    }


def _adapter_spec(adapter: AdapterSection, seed: int) -> AdapterSpec:
    targets = None if adapter.target_modules is None else tuple(adapter.target_modules)
    return AdapterSpec(adapter.rank, adapter.alpha, target_modules=targets, seed=seed)


def make_arguments(plan: TrainingPlan) -> FlowGRPOConfig:
    """Return the training arguments for a plan.

    Raises:
        UserError: The device is not the first visible one.
    """
    section: TrainSection = plan.section
    device = resolve_device(plan.manifest.device)
    if device.startswith("cuda:") and device != "cuda:0":
        index = device.removeprefix("cuda:")
        raise UserError(
            f"Training runs on the first visible device of a process, received device {device!r}. Set device: cuda, "
            f"and choose the device with the environment variable CUDA_VISIBLE_DEVICES={index}."
        )
    return FlowGRPOConfig(
        **read_section(section),
        output_dir=str(plan.output_dir),
        seed=run_seed(plan.manifest),
        max_steps=section.total_steps,
        adam_beta1=section.optimiser.betas[0],
        adam_beta2=section.optimiser.betas[1],
        lr_scheduler_kwargs=_schedule_options(section),
        full_finetuning=section.adapter is None,
        save_strategy="steps",
        report_to=list(section.report_to) or "none",
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
    )


def _schedule_options(section: TrainSection) -> dict[str, Any] | None:
    """Return additional options of the learning rate schedule."""
    if section.optimiser.schedule != "warmup_stable_decay":
        return None
    return {"num_decay_steps": section.decay_steps, "decay_type": "linear"}
