"""Plan to result: components are made, the model is evaluated, trained, evaluated again and exported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.compose import ScoringComponents, build, compose_scoring, resolve_device
from worldr1_core.errors import TrajectoryError, UserError
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.generation_components import build_conditioner, compose_generation
from worldr1_core.log import get_logger
from worldr1_core.manifest import ComponentSpec
from worldr1_core.noise import NoiseConditioner
from worldr1_core.pipeline import VideoRequest, commanded_path
from worldr1_core.reward import Requirement
from worldr1_core.scoring import ScoringEngine
from worldr1_train.callbacks import MetricsFile, PeriodicEvaluation, ProgressBar, SampleVideos
from worldr1_train.checkpoints import check_free_space, remove_unfinished
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.evaluation import Evaluation, Evaluator, compare, summarise
from worldr1_train.evaluation_videos import EvaluationVideos
from worldr1_train.memory import GIB, available_memory, count_memory
from worldr1_train.plan import TrainingPlan, record_run
from worldr1_train.policy_model import PolicyModel, copy_parameters, whole_tensor
from worldr1_train.policy_pipeline import policy_pipeline
from worldr1_train.section import TrainSection
from worldr1_train.seeds import run_seed
from worldr1_train.stages import Stage
from worldr1_train.trainer import FlowGRPOTrainer

log = get_logger(__name__)

ADAPTER, WEIGHTS = "adapter", "weights"
BEFORE, AFTER = "evaluation-before.json", "evaluation-after.json"
NOISE_ONLY = "evaluation-noise-only.json"
"""What the manifest's noise alone does, without training."""
AGGREGATIONS = {"weighted-sum": "sum_then_normalize", "gdpo": "normalize_then_sum"}


class TrainingRun:
    """A run with its components made; weights are loaded when they are first needed.

    Args:
        plan: What to do.

    Raises:
        UserError: A component cannot be had, a prompt commands a path that the clip is too short for, or the
            checkpoints would not fit onto the disk.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self.args = make_arguments(plan)
        device = "cpu" if self.args.device.type == "cpu" else str(self.args.device)  # torchrun calls it cpu:0
        manifest = plan.manifest.model_copy(update={"device": device})
        registry = plan.registry
        self.components = compose_generation(manifest, registry, device)
        self._device = device
        self._check_prompts()
        names = [*(reward.name for reward in manifest.rewards), *plan.metrics]
        self._scoring = compose_scoring(manifest, registry, only=list(dict.fromkeys(names)))
        stages = self._make_stages()
        self._add_adapter(self.components.backbone)
        assert self.components.sampler is not None
        self.trainer = FlowGRPOTrainer(self.components.backbone, self.components.sampler, stages, self.args)
        self.trainer.remove_callback(PrinterCallback)  # stdout belongs to the result
        self._check_space()
        self.evaluator = self._make_evaluator()

    def execute(self) -> dict[str, Any]:
        """Evaluate, train, evaluate, export; the result as plain data.

        The model before is the one that the user came with: untrained, from plain Gaussian noise. Where the manifest
        has a noise conditioner, the untrained model is measured with it too, so that the share of training can be seen.
        """
        start = time.perf_counter()
        plan, trainer, main = self.plan, self.trainer, self.trainer.accelerator.is_main_process
        if main:
            plan.output_dir.mkdir(parents=True, exist_ok=True)
            remove_unfinished(plan.output_dir)
            record_run(plan)
        trainer.accelerator.wait_for_everyone()
        before = self._evaluate_once(BEFORE, lambda: self._evaluate_reference(GaussianNoise()))
        noise_only = None
        if plan.manifest.noise is not None:
            noise_only = self._evaluate_once(NOISE_ONLY, lambda: self._evaluate_reference(self.components.conditioner))
        self._train()
        with trainer.averaged():
            after = self._evaluate_once(AFTER, self._evaluate)
            exported = self._export()
        trainer.accelerator.wait_for_everyone()
        return {
            "before": None if before is None else before.means(),
            "noise_only": None if noise_only is None else noise_only.means(),
            "after": None if after is None else after.means(),
            "change": None if before is None or after is None else summarise(compare(before, after)),
            "change_by_training": None
            if noise_only is None or after is None
            else summarise(compare(noise_only, after)),
            "seconds": round(time.perf_counter() - start, 3),
            "output_dir": str(plan.output_dir),
            "adapter": str(exported),
            "steps": int(trainer.state.global_step),
        }

    def _train(self) -> None:
        plan, trainer = self.plan, self.trainer
        bar = ProgressBar()
        callbacks: list[Any] = [bar, MetricsFile(plan.output_dir), SampleVideos(trainer, plan.output_dir)]
        evaluation = plan.section.evaluation
        if evaluation is not None and evaluation.every is not None:
            callbacks.append(PeriodicEvaluation(trainer, self._evaluate, evaluation.every))
        for callback in callbacks:
            trainer.add_callback(callback)
        log.info(
            "training",
            steps=self.args.max_steps,
            trainable=sum(p.numel() for p in trainer.model.trainable().values()),
            micro_batches=trainer.num_micro_batches,
            processes=trainer.accelerator.num_processes,
            resumed_from=None if plan.checkpoint is None else str(plan.checkpoint),
        )
        self._log_memory_estimate()
        try:
            trainer.train(resume_from_checkpoint=None if plan.checkpoint is None else str(plan.checkpoint))
        finally:
            bar.stop()

    def _log_memory_estimate(self) -> None:
        trainer = self.trainer
        needs = count_memory(trainer.model, self.args, trainer.num_window_steps)
        device = self.args.device
        available = available_memory(device)
        estimate: dict[str, float | None] = {f"{part}_gib": value for part, value in needs.in_gib().items()}
        estimate["available_gib"] = None if available is None else round(available / GIB, 1)
        log.info("memory estimate per process", excluded="activations, encoders and rewards", **estimate)
        if available is not None and needs.total > available:
            log.warning(
                "memory estimate exceeds the device",
                advice="lower prompts_per_rollout_batch, groups_per_rollout or group_size, or shard with FSDP2",
                **estimate,
            )

    # Components

    def _add_adapter(self, backbone: Backbone) -> None:
        adapter = self.plan.section.adapter
        if adapter is not None:
            targets = None if adapter.target_modules is None else tuple(adapter.target_modules)
            seed = self.plan.manifest.seed
            backbone.add_adapter(AdapterSpec(adapter.rank, adapter.alpha, target_modules=targets, seed=seed))

    def _stage_conditioner(self, noise: bool | ComponentSpec) -> NoiseConditioner:
        """The run's own where `noise` is true, plain Gaussian noise where it is false."""
        if isinstance(noise, ComponentSpec):
            return build_conditioner(noise, self.plan.registry, self._device)
        return self.components.conditioner if noise else GaussianNoise()

    def _make_stages(self) -> list[Stage]:
        stages = []
        for index, stage in enumerate(self.plan.section.stages):
            names = self.plan.stage_rewards(stage)
            scoring = subset(self._scoring, names)
            stages.append(
                Stage(
                    name=f"{index}:{stage.prompts}",
                    steps=stage.steps,
                    split=stage.prompts,
                    prompts=self.plan.prompts[stage.prompts],
                    scorer=ScoringEngine(scoring),
                    weights={reward.name: reward.weight for reward in scoring.rewards if reward.weight > 0},
                    conditioner=self._stage_conditioner(stage.noise),
                )
            )
        return stages

    def _make_evaluator(self) -> Evaluator | None:
        evaluation = self.plan.section.evaluation
        if evaluation is None:
            return None
        pipeline = policy_pipeline(
            self.components,
            self.trainer.model,
            self.trainer.accelerator.autocast,
            num_inference_steps=evaluation.num_inference_steps,
        )
        videos = EvaluationVideos(pipeline, self.plan.evaluation_prompts(evaluation), self.args.seed)
        return Evaluator(videos, ScoringEngine(subset(self._scoring, self.plan.metrics)), evaluation.batch_size)

    def _check_prompts(self) -> None:
        geometry = self.components.backbone.geometry
        for split, prompts in self.plan.prompts.items():
            for prompt in prompts:
                try:
                    commanded_path(VideoRequest(prompt), geometry)
                except TrajectoryError as error:
                    raise UserError(f"Prompt {prompt!r} of {split!r} cannot be used: {error}") from error

    def _check_space(self) -> None:
        bytes_of_weights = sum(p.numel() * 4 for p in self.trainer.model.trainable().values())
        copies = 4  # weights, their average, and AdamW's two moments
        if self.trainer.accelerator.is_main_process:
            self.plan.output_dir.mkdir(parents=True, exist_ok=True)
            check_free_space(
                self.plan.output_dir, bytes_of_weights * copies * (self.plan.section.checkpoints.keep + 1) + 2**20
            )

    # Evaluation and export

    def _evaluate(self, conditioner: NoiseConditioner | None = None) -> Evaluation:
        """The policy as it is, from the manifest's noise or another one."""
        assert self.evaluator is not None
        evaluator = self.evaluator
        if conditioner is not None:
            evaluator = replace(evaluator, videos=evaluator.videos.with_noise(conditioner))
        accelerator = self.trainer.accelerator
        return evaluator(rank=accelerator.process_index, num_processes=accelerator.num_processes)

    def _evaluate_reference(self, conditioner: NoiseConditioner) -> Evaluation:
        with self.trainer.model.reference():
            return self._evaluate(conditioner)

    def _evaluate_once(self, name: str, evaluate: Callable[[], Evaluation]) -> Evaluation | None:
        """An evaluation that a resumed run has made already is read instead."""
        if self.evaluator is None:
            return None
        path = self.plan.output_dir / name
        if path.exists():
            return Evaluation.load(path)
        log.info("evaluating", videos=len(self.evaluator.videos), metrics=self.plan.metrics)
        found = evaluate()
        if self.trainer.accelerator.is_main_process:
            found.save(path)
        self.trainer.accelerator.wait_for_everyone()
        log.info("evaluated", **{name: value for name, value in found.means().items() if value is not None})
        return found

    def _export(self) -> Path:
        """The adapter, as a plain pipeline loads it; every weight where there is none."""
        folder = self.plan.output_dir / (ADAPTER if self.plan.section.adapter is not None else WEIGHTS)
        backbone = self._unsharded() if self.trainer.is_fsdp_enabled else self.components.backbone
        if self.trainer.accelerator.is_main_process:
            export(backbone, folder, adapter=self.plan.section.adapter is not None)
        return folder

    def _unsharded(self) -> Backbone:
        """A backbone of the main process, on the CPU, with the weights that lie on all processes."""
        weights = {name: whole_tensor(p.detach()).cpu() for name, p in self.trainer.model.trainable().items()}
        if not self.trainer.accelerator.is_main_process:
            return self.components.backbone
        assert self.plan.manifest.backbone is not None
        backbone = build(self.plan.manifest.backbone, "backbone", Backbone, self.plan.registry, "cpu")
        self._add_adapter(backbone)
        parameters = PolicyModel(backbone, full=self.plan.section.adapter is None).trainable()
        copy_parameters(parameters, weights)
        return backbone


def export(backbone: Backbone, folder: Path, *, adapter: bool) -> None:
    """Write what was trained in diffusers' layout.

    Args:
        backbone: With the weights to write.
        folder: Where to.
        adapter: The adapter; else every denoiser, in a folder of its name.

    Raises:
        UserError: A denoiser is no diffusers model.
    """
    if adapter:
        backbone.save_adapter(folder)
        return
    denoisers: dict[str, Any] = dict(backbone.denoisers)
    for name, module in denoisers.items():
        if not hasattr(module, "save_pretrained"):
            raise UserError(f"{type(module).__name__} has no save_pretrained; its weights are in the checkpoints.")
        module.save_pretrained(folder / name)


def subset(components: ScoringComponents, names: list[str]) -> ScoringComponents:
    """The same objects for some of the rewards; what none of them reads is left out."""
    chosen = replace(components, rewards=[reward for reward in components.rewards if reward.name in names])
    return replace(
        chosen,
        reconstructor=components.reconstructor if Requirement.RECONSTRUCTION in chosen.requires else None,
        judge=components.judge if Requirement.JUDGE in chosen.requires else None,
    )


def make_arguments(plan: TrainingPlan) -> FlowGRPOConfig:
    """The training arguments that a plan stands for."""
    section: TrainSection = plan.section
    device = resolve_device(plan.manifest.device)
    on_cpu = device == "cpu"
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
        bf16=section.in_bfloat16(device),
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
        use_cpu=on_cpu,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
