"""`FlowGRPOTrainer`, which post-trains a text-to-video model with rewards.

For every rollout batch, `RolloutPhase` samples and scores videos for each objective of the current stage. Then
`compute_loss` computes the loss of one micro-batch at a time. `transformers.Trainer` provides the rest of the training
loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, gather_object, set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl.trainer.base_trainer import _BaseTrainer
from trl.trainer.utils import identity

from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.errors import UserError
from worldr1_core.judge import Judge
from worldr1_core.log import get_logger
from worldr1_core.noise import NoiseConditioner
from worldr1_core.objective import Objective
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.registry import Registry
from worldr1_core.sampler import Sampler
from worldr1_train.advantages import Advantages
from worldr1_train.callbacks import PeriodicEvaluation
from worldr1_train.checkpoints import CheckpointManager
from worldr1_train.composition import (
    ComponentLike,
    EvaluationLike,
    RewardsLike,
    TrainingChoices,
    compose_training,
)
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.ema import ExponentialMovingAverage
from worldr1_train.errors import TrainingStopped
from worldr1_train.evaluation import AFTER, BEFORE, Evaluation, Evaluator, Keep
from worldr1_train.evaluation_videos import EvaluationVideos
from worldr1_train.export import ADAPTER, WEIGHTS, export, unshard
from worldr1_train.hub import write_adapter_config, write_card
from worldr1_train.metrics_log import MetricsProcessor
from worldr1_train.objective_checks import check_loss
from worldr1_train.objective_choice import ObjectivesLike
from worldr1_train.policy_model import PolicyModel
from worldr1_train.policy_pipeline import policy_pipeline
from worldr1_train.prompts import PromptsLike
from worldr1_train.rollout_phase import RolloutPhase
from worldr1_train.rollouts import RolloutBatch, RolloutCollector, SampleScore
from worldr1_train.section import AdapterSection, StageSection
from worldr1_train.stages import Stage, StageSchedule
from worldr1_train.trained_policy import TrainedPolicy
from worldr1_train.training_progress import TrainingProgress
from worldr1_train.turns import Turn, TurnPlan
from worldr1_train.updates import UpdateBuffer

log = get_logger(__name__)


class FlowGRPOTrainer(_BaseTrainer):
    """Trainer that post-trains a text-to-video model with rewards.

    The default objective is Flow-GRPO-Fast, the method of the World-R1 paper (section 3). The class extends TRL's base
    trainer.

    Every argument takes a name or an object; `from_manifest` creates the same trainer from a manifest.

    Args:
        backbone: A registered name, a mapping with `name` and options, a diffusers checkpoint (folder or hub id), a
            class, or an object.
        rewards: One reward or a list. Each is a registered name, a mapping with `name` and options, a `Reward` class
            or object, a function in TRL's convention, or a pair of one of these and a weight. A manifest is also
            accepted: its rewards, reconstructor and judge are used.
        args: Training arguments. Without `max_steps`, training lasts one cycle of the stages, or `num_train_epochs`
            passes over the prompts if no stages are given.
        prompts: A list of texts, a prompt file, or a dataset with a column `prompt`; or a mapping from splits to
            these.
        sampler: Name, mapping, class or object. The sampler defines the policy and its stochastic steps. Defaults to
            `flow-sde` with 20 steps.
        noise: Name, mapping, class or object that draws the initial noise. Defaults to plain Gaussian noise.
        stages: Phases of the training cycle: mappings with `steps`, `prompts`, `rewards` and `noise`, as in a manifest.
            Defaults to one stage with all rewards. `Stage` objects contain their own rewards, prompts and noise
            conditioner; with them, `rewards`, `prompts`, `noise` and `evaluation` must be left out.
        adapter: `AdapterSpec`, or a mapping with `rank`, `alpha` and `target_modules`. `True` adds an adapter with rank
            32 and alpha 64, unless the backbone object already has an adapter or `args.full_finetuning` is set. `False`
            adds none.
        evaluation: Evaluation settings as in a manifest, or only the prompts. With `every`, the policy is also
            evaluated during training.
        reconstructor: Name or object for rewards that require a reconstruction. Defaults to the manifest's
            reconstructor, or to `auto`.
        judge: Name or object for rewards that require a judge. Defaults to the manifest's judge.
        objective: The loss: a name, a mapping with `name` and options, a class, an object, a pair of one of these and a
            weight, or a list of these, whose losses are summed. Defaults to Flow-GRPO with the options of `args`.
        callbacks: Callbacks, as for `transformers.Trainer`.
        registry: Where names are looked up. Defaults to the installed plugins and the components registered in this
            process.

    Raises:
        UserError: An argument is missing or given twice, a component cannot be created, the batch sizes do not divide
            each other, nothing is trainable, or the objective needs stochastic steps and the sampler has none.

    Example:
        ```python
        from worldr1_train import FlowGRPOConfig, FlowGRPOTrainer

        args = FlowGRPOConfig(output_dir="runs/tiny", max_steps=2, num_generations=4, ema_every=1)
        trainer = FlowGRPOTrainer("tiny-wan", ["mean-gradient"], args, prompts=["Camera push in. A red box."])
        trainer.train()
        trainer.save_model()  # writes runs/tiny/adapter
        ```
    """

    loss_is_scaled_for_ga = True
    _tag_names = ("trl", "world-r1")
    _name = "Flow-GRPO"
    _paper = {  # noqa: RUF012 - TRL's own form
        "title": "World-R1: Reinforcing 3D Constraints for Text-to-Video Generation",
        "id": "2604.24764",
    }

    def __init__(
        self,
        backbone: ComponentLike | Backbone | type[Backbone],
        rewards: RewardsLike | None = None,
        args: FlowGRPOConfig | None = None,
        prompts: PromptsLike | Mapping[str, PromptsLike] | None = None,
        *,
        sampler: ComponentLike | Sampler | type[Sampler] | None = None,
        noise: ComponentLike | NoiseConditioner | type[NoiseConditioner] | None = None,
        stages: Sequence[Stage | StageSection | Mapping[str, Any]] | None = None,
        adapter: AdapterSpec | AdapterSection | Mapping[str, Any] | bool = True,
        evaluation: EvaluationLike | None = None,
        reconstructor: str | Reconstructor | None = None,
        judge: str | Judge | None = None,
        objective: ObjectivesLike | None = None,
        callbacks: list[TrainerCallback] | None = None,
        registry: Registry | None = None,
    ) -> None:
        args = FlowGRPOConfig() if args is None else args
        choices = TrainingChoices(
            backbone=backbone,
            rewards=rewards,
            prompts=prompts,
            sampler=sampler,
            noise=noise,
            stages=stages,
            adapter=adapter,
            evaluation=evaluation,
            reconstructor=reconstructor,
            judge=judge,
            objective=objective,
        )
        components = compose_training(choices, args, installed().registry if registry is None else registry)
        assert components.generation.sampler is not None
        self.components = components
        self.backbone, self.sampler = components.generation.backbone, components.generation.sampler
        self._plan_steps(args, components.stages)
        set_seed(args.seed)
        if args.recompute_activations:
            self.backbone.set_gradient_checkpointing(True)
        self._reads_reference = any(stage.needs_reference for stage in components.stages) or any(
            objective.needs_reference for objective in self.objectives.values()
        )
        model = PolicyModel(self.backbone, full=args.full_finetuning, keep_reference=self._reads_reference)
        if not model.trainable():
            raise UserError("Nothing is trainable. Put an adapter on the backbone, or set full_finetuning.")
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = len(model.denoisers) > 1  # a window may use only one of two denoisers
        super().__init__(
            model=model,
            args=args,
            data_collator=identity,
            train_dataset=range(args.max_steps * args.gradient_accumulation_steps),
            callbacks=callbacks,
        )
        self._check_sharding()
        self.metrics = MetricsProcessor(args.prompts_per_rollout_batch * args.num_generations, self.accelerator.device)
        self._prepare_rollouts(model)
        self.evaluator = self._make_evaluator(model)
        self.ema: ExponentialMovingAverage | None = None
        self._step = 0  # turns (micro-batches) that this process has completed
        self.phase = RolloutPhase(self)
        self.buffers: list[UpdateBuffer] = []  # of the current rollout batch, one per objective of its stage
        self._rollout_batch_start = 0.0
        self._update_seconds = 0.0
        self._window_losses: list[Tensor] = []
        self.checkpoints = CheckpointManager(self)
        self.last_rollout_batch: RolloutBatch | None = None
        self.last_scores: list[SampleScore] = []
        self.last_advantages: Advantages | None = None
        self._add_callbacks()

    @classmethod
    def from_manifest(
        cls,
        manifest: str | Path,
        *,
        output_dir: str | Path | None = None,
        overrides: Sequence[str] = (),
        registry: Registry | None = None,
    ) -> FlowGRPOTrainer:
        """Create the trainer that `worldr1 train MANIFEST` runs.

        Args:
            manifest: Manifest file with a section `train`.
            output_dir: Folder of the run. Defaults to `runs/<name of the manifest>`.
            overrides: Changed values of the manifest, each as `a.b=value` with the value in YAML.
            registry: Where names are looked up.

        Raises:
            UserError: The manifest is invalid, or the folder already contains a run.
        """
        from worldr1_train.plan import plan_run
        from worldr1_train.plan_arguments import trainer_arguments

        registry = installed().registry if registry is None else registry
        folder = None if output_dir is None else Path(output_dir)
        return cls(**trainer_arguments(plan_run(Path(manifest), registry, overrides=overrides, output_dir=folder)))

    def _plan_steps(self, args: FlowGRPOConfig, stages: Sequence[Stage]) -> None:
        """Derive the numbers of optimiser steps and micro-batches."""
        window, steps = self.sampler.config.window, self.sampler.config.num_inference_steps
        self.turn_plan = TurnPlan(stages, args, window, steps)
        self.schedule = StageSchedule(stages, args.updates_per_rollout_batch)
        if args.max_steps <= 0:
            args.max_steps = self.schedule.cycle_steps
        args.check_steps()

    def _prepare_rollouts(self, model: PolicyModel) -> None:
        pipeline = policy_pipeline(self.components.generation, model, self.accelerator.autocast)
        assert pipeline.scheduler is not None
        self.scheduler = pipeline.scheduler
        self.policy = TrainedPolicy(
            self.backbone,
            lambda: self.model_wrapped,
            self._policy_model,
            pipeline.scheduler,
            self.metrics,
            updates_per_rollout=self.args.updates_per_rollout_batch,
            recompute=self.args.recompute_activations,
        )
        self.collector = RolloutCollector(
            model=model,
            pipeline=pipeline,
            group_size=self.args.num_generations,
            groups_per_chunk=self.args.groups_per_rollout,
            asynchronous=self.args.async_rewards,
            chunks_ahead=self.args.chunks_ahead,
            max_refills=self.args.max_refills,
        )

    def _make_evaluator(self, model: PolicyModel) -> Evaluator | None:
        evaluation = self.components.evaluation
        if evaluation is None:
            return None
        section = evaluation.section
        pipeline = policy_pipeline(
            self.components.generation,
            model,
            self.accelerator.autocast,
            num_inference_steps=section.num_inference_steps,
        )
        videos = EvaluationVideos(pipeline, evaluation.prompts, self.args.seed)
        return Evaluator(videos, evaluation.scorer, section.batch_size)

    def _add_callbacks(self) -> None:
        for callback in list(self.callback_handler.callbacks):
            if type(callback) in (PrinterCallback, ProgressCallback):  # both write to stdout
                self.remove_callback(callback)
        self._progress = TrainingProgress()
        if not self.args.disable_tqdm:
            self.add_callback(self._progress)
        self.add_callback(_UpdateHooks(self))
        evaluation = self.components.evaluation
        if evaluation is not None and evaluation.section.every is not None:
            self.add_callback(PeriodicEvaluation(self, self.evaluate_policy, evaluation.section.every))

    def _check_sharding(self) -> None:
        if self.args.full_finetuning and self._reads_reference and self.is_fsdp_enabled:
            raise UserError(
                "full_finetuning with an objective or a reward that compares with the model before training needs a "
                "full copy of the initial weights, which is not supported with FSDP. Train an adapter instead, or "
                "remove the KL terms, anchors and constraints of the objective (beta=0 in FlowGRPOConfig) and such "
                "rewards."
            )
        fsdp = getattr(self.accelerator.state, "fsdp_plugin", None)
        if self.is_fsdp_enabled and getattr(fsdp, "fsdp_version", 1) != 2:
            raise UserError(
                "FSDP version 1 is not supported, because it flattens parameters. Set fsdp_version: 2 in the "
                "accelerate configuration."
            )
        deepspeed = getattr(self.accelerator.state, "deepspeed_plugin", None)
        if self.is_deepspeed_enabled and getattr(deepspeed, "zero_stage", 0) == 3:
            raise UserError(
                "DeepSpeed ZeRO stage 3 is not supported, because it partitions the parameters between steps. Use "
                "stage 2, or FSDP2."
            )

    # Data: the data loader only counts micro-batches. The prompts of a rollout batch depend on its number and the seed.

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a data loader of micro-batch numbers, the same on every process."""
        ticks = range(self.args.max_steps * self.args.gradient_accumulation_steps)
        return DataLoader(ticks, batch_size=1, collate_fn=_tick)  # type: ignore[arg-type]

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["tick"]

    def _send_telemetry(self) -> None:
        """Send nothing: TRL's implementation reads `model.config.model_type`, which denoisers lack."""

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `transformers.Trainer.train` does, with progress on stderr unless `args.disable_tqdm` is set."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._progress.stop()

    # The update

    @property
    def objectives(self) -> dict[str, Objective]:
        """Every objective of the run once, keyed by `<stage>.<position in the stage>` where it first occurs."""
        found: dict[int, tuple[str, Objective]] = {}
        for number, stage in enumerate(self.components.stages):
            for place, weighted in enumerate(stage.objectives):
                found.setdefault(id(weighted.objective), (f"{number}.{place}", weighted.objective))
        return dict(found.values())

    def position(self, step: int) -> tuple[int, int]:
        """Return the rollout batch, and the turn within it, of the `step`-th micro-batch of this process."""
        return divmod(step, self.turn_plan.per_rollout_batch)

    @property
    def stage(self) -> Stage:
        """Stage of the current turn."""
        return self.schedule.at(self.position(self._step)[0])

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Process one turn; collect a new rollout batch every `turn_plan.per_rollout_batch` turns."""
        rollout_batch, turn = self.position(self._step)
        if turn == 0:
            self._begin_rollout_batch(rollout_batch)
        start = time.perf_counter()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._window_losses.append(loss)
        self._step += 1
        self._update_seconds += time.perf_counter() - start
        if self.position(self._step)[1] == 0:
            self._end_rollout_batch()
        return loss

    def _prepare_inputs(self, inputs: Any) -> Turn | None:
        """Return the current turn; the data loader's number is ignored."""
        if not self.buffers:
            raise UserError(
                "The checkpoint was written within a rollout batch, and its rollouts are missing. Resume from another "
                "checkpoint."
            )
        rollout_batch, turn = self.position(self._step)
        return self.turn_plan.turns(self.schedule.index(rollout_batch))[turn]

    def compute_loss(
        self, model: Any, inputs: Turn | None, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the objective's loss, summed over valid items and divided by their number in the optimiser step."""
        if inputs is None:
            return self.policy.zero_loss()
        weighted, buffer = self.stage.objectives[inputs.objective], self.buffers[inputs.objective]
        self.policy.enter(self.stage, inputs.objective)
        self._begin_update(weighted.objective, buffer)
        batch = buffer.batch(inputs.index, self.backbone)
        per_item = check_loss(weighted.name, weighted.objective.loss(batch, self.policy), batch)
        update = self.position(self._step)[1] // self.args.gradient_accumulation_steps
        # Gradients are averaged over processes, but `num_valid_items` counts the items of all processes.
        scale = self.accelerator.num_processes / max(1, buffer.num_valid_items[update])
        counted = torch.where(batch.valid, per_item, torch.zeros_like(per_item)).sum() * scale
        return counted * weighted.weight

    @torch.no_grad()
    def _begin_update(self, objective: Objective, buffer: UpdateBuffer) -> None:
        """Tell the objective of an optimiser step if the current turn is its first one there."""
        rollout_batch, turn = self.position(self._step)
        opened = self.turn_plan.opened_update(self.schedule.index(rollout_batch), turn)
        if opened:
            objective.begin_update([buffer.batch(index, self.backbone) for index in opened], self.policy)

    # A rollout batch

    def _begin_rollout_batch(self, rollout_batch: int) -> None:
        self._rollout_batch_start, self._update_seconds = time.perf_counter(), 0.0
        self.buffers = []  # free the previous rollouts before sampling new ones
        self.buffers = self.phase.collect(rollout_batch)
        self.metrics.note_stage(rollout_batch, self.schedule.index(rollout_batch))

    def _end_rollout_batch(self) -> None:
        self.metrics.note_phase("update", self._update_seconds)
        self.metrics.note_phase("rollout_batch", time.perf_counter() - self._rollout_batch_start)
        self.metrics.note_memory()

    @property
    def num_clips_to_keep(self) -> int:
        """Number of clips of the current rollout batch to write as samples."""
        due = self.state.global_step % self.args.sample_videos_every < self.args.updates_per_rollout_batch
        return self.args.num_sample_videos if due else 0

    def _policy_model(self) -> PolicyModel:
        model: PolicyModel = self.accelerator.unwrap_model(self.model)
        return model

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context manager that applies the averaged weights, if there is an average."""
        return nullcontext() if self.ema is None else self.ema.applied()

    # Log and checkpoints

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log values together with the metrics of the step; evaluation logs leave these for the step's own log."""
        is_evaluation = any(name.startswith("eval/") for name in logs)
        super().log(logs if is_evaluation else {**logs, **self.metrics.take()}, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.store_flos()
        self.checkpoints.save()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.checkpoints.load_weights(resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.checkpoints.load_progress(checkpoint)

    # Evaluation

    def evaluate_policy(
        self, conditioner: NoiseConditioner | None = None, *, show_progress: bool = False, keep: Keep | None = None
    ) -> Evaluation:
        """Evaluate the policy with its current weights, on the evaluation prompts with fixed seeds.

        All processes must call it.

        Args:
            conditioner: Draws the initial noise, instead of the run's noise conditioner.
            show_progress: Show a progress bar on stderr.
            keep: Called with the number and clip of every video, in the process that generated it.

        Raises:
            UserError: The trainer has no `evaluation`.
        """
        if self.evaluator is None:
            raise UserError("The trainer has no evaluation prompts. Pass evaluation=[prompt, ...] to the trainer.")
        evaluator = self.evaluator
        if conditioner is not None:
            evaluator = replace(evaluator, videos=evaluator.videos.with_noise(conditioner))
        rank, num_processes = self.accelerator.process_index, self.accelerator.num_processes
        return evaluator(rank=rank, num_processes=num_processes, show_progress=show_progress and rank == 0, keep=keep)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the averaged policy and log the means under `eval/`. Unlike `Trainer.evaluate`, takes no arguments.

        Before the first step and after the last, the values of every video are also saved in the folder of the run, for
        the model card.

        Returns:
            `eval/<metric>` -> mean over the videos, NaN if none has a value.

        Raises:
            UserError: The trainer has no `evaluation`, or an argument is given.
        """
        if args or kwargs:
            raise UserError("evaluate() takes no arguments. Pass the prompts as evaluation=[...] to the trainer.")
        with self.averaged():
            found = self.evaluate_policy()
        means, step = found.means(), self.state.global_step
        if self.is_world_process_zero() and step in (0, self.args.max_steps):
            found.save(Path(self.args.output_dir) / (BEFORE if step == 0 else AFTER))
        logged = {f"eval/{name}": math.nan if value is None else value for name, value in means.items()}
        self.log(dict(logged))  # a copy, because `log` adds to its argument
        return logged

    # Export

    def export(self, folder: str | Path) -> Path:
        """Write the trained adapter, or all weights if there is none, in a format that diffusers pipelines load.

        All processes must call it. The current weights are written: call it within `averaged()` to write the averaged
        ones.

        Args:
            folder: Folder of the run; the export is written to `adapter` or `weights` within it.

        Returns:
            The folder that was written.
        """
        full, is_main = self.args.full_finetuning, self.accelerator.is_main_process
        path = Path(folder) / (WEIGHTS if full else ADAPTER)
        backbone = self.backbone
        if self.is_fsdp_enabled:
            backbone = unshard(self._policy_model(), self.components.adapter, is_main=is_main)
        if is_main:
            export(backbone, path, adapter=not full)
            if not full:
                write_adapter_config(backbone, self.components.adapter, path)
        return path

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the averaged policy to `adapter` (or `weights`) within a folder; see `export`.

        Args:
            output_dir: The folder. Defaults to `args.output_dir`.
        """
        with self.averaged():
            self.export(self.args.output_dir if output_dir is None else output_dir)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write `README.md` into `args.output_dir`: base model, rewards, manifest and the evaluations of the run.

        Args:
            model_name: Name of the model. Defaults to the hub id, or to the name of the folder.
            dataset_name: Hub id of the prompts.
            tags: Additional tags.
        """
        if self.is_world_process_zero():
            write_card(self, model_name, dataset_name, [tags] if isinstance(tags, str) else tags or [])

    # Stopping

    def check_failures(self, scores: list[SampleScore]) -> None:
        """Log the samples whose rewards failed.

        Raises:
            TrainingStopped: Their share exceeds `max_failed_share`.
        """
        failed = [score for score in scores if score.failed]
        for score in failed if self.accelerator.is_main_process else ():
            log.warning("sample masked", reasons=score.failures)
        share = len(failed) / len(scores)
        if share > self.args.max_failed_share:
            reasons = sorted({f"{name}: {why}" for score in failed for name, why in score.failures.items()})
            self.stop(
                f"{len(failed)} of {len(scores)} samples of a rollout batch have no reward; max_failed_share is "
                f"{self.args.max_failed_share}. Reasons: {'; '.join(reasons[:3])}"
            )

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the gradient norm; stop the run if loss or norm is not finite, or the loss exceeds `max_loss`."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        losses, self._window_losses = self._window_losses, []
        loss = gather(torch.stack([value.detach() for value in losses]).sum().reshape(1)).mean().item()
        value = float(norm)
        if not (math.isfinite(loss) and math.isfinite(value)) or abs(loss) > self.args.max_loss:
            self._step -= self.args.gradient_accumulation_steps
            broken = self._not_finite(losses)
            cause = (
                f"The loss of {' and '.join(map(repr, broken))} is not finite: check this objective and the rewards"
                if broken
                else "Lower the learning rate, or check the rewards"
            )
            self.stop(
                f"The loss of optimiser step {self.state.global_step + 1} is {loss:.4g} with a gradient norm of "
                f"{value:.4g}; max_loss is {self.args.max_loss}. {cause}"
            )
        return norm

    def _not_finite(self, losses: Sequence[Tensor]) -> list[str]:
        """Return the names of the objectives whose loss is not finite on some process.

        Args:
            losses: Losses of the turns of the optimiser step that starts at the current turn.
        """
        rollout_batch, start = self.position(self._step)
        turns = self.turn_plan.turns(self.schedule.index(rollout_batch))[start : start + len(losses)]
        broken = [turn.objective for turn, loss in zip(turns, losses, strict=True) if turn and not loss.isfinite()]
        names = [self.schedule.at(rollout_batch).objectives[index].name for index in broken]
        return sorted({name for own in gather_object([names]) for name in own})

    def stop(self, why: str) -> None:
        """Write a checkpoint of the state after the last optimiser step, and stop. All processes must call it.

        Args:
            why: Reason.

        Raises:
            TrainingStopped: Always.
        """
        path = self.checkpoints.save()
        raise TrainingStopped(
            f"{why}. The run is saved as {str(path)!r}. Continue with --resume, or in Python with "
            "train(resume_from_checkpoint=...)."
        )


class _UpdateHooks(TrainerCallback):
    """Callback for the start of training and for optimiser steps."""

    def __init__(self, trainer: FlowGRPOTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start average and objectives, once the parameters are wrapped, and loaded if the run is resumed."""
        trainer = self._trainer
        trainer._policy_model().register_rollout_forward()
        trainer.checkpoints.start_average()
        for objective in trainer.objectives.values():
            objective.start(trainer.policy)
        trainer.checkpoints.load_objectives()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Clear the gradients of an update without valid items, so that momentum and weight decay do not act."""
        trainer = self._trainer
        _, turn = trainer.position(trainer._step - 1)
        update = turn // args.gradient_accumulation_steps
        if not any(buffer.num_valid_items[update] for buffer in trainer.buffers):
            trainer.model.zero_grad(set_to_none=True)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update the average and the objectives after an optimiser step."""
        trainer = self._trainer
        if trainer.ema is not None:
            trainer.ema.update(state.global_step + 1)
        rollout_batch, _ = trainer.position(trainer._step - 1)
        stage = trainer.schedule.at(rollout_batch)
        for index, weighted in enumerate(stage.objectives):
            trainer.policy.enter(stage, index)
            weighted.objective.end_update(trainer.policy)


def _tick(items: list[int]) -> dict[str, int]:
    return {"tick": items[0]}
