"""Execution of a training plan: the model is evaluated, trained, evaluated again and exported."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.log import get_logger
from worldr1_core.noise import NoiseConditioner
from worldr1_train.alarm_log import AlarmWatch
from worldr1_train.alarms import Alarm
from worldr1_train.callbacks import MetricsFile, PeriodicEvaluation, SampleVideos
from worldr1_train.checkpoints import check_free_space, remove_unfinished
from worldr1_train.contact_sheet import ShownVideos, folder_name
from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY, Evaluation, Keep, compare, metric_name, summarise
from worldr1_train.held_out import with_held_out
from worldr1_train.log_context import StepId
from worldr1_train.memory import GIB, available_memory, count_memory
from worldr1_train.plan import TrainingPlan, record_run
from worldr1_train.plan_arguments import trainer_arguments
from worldr1_train.run_pictures import SHOWN_AS, VIDEOS, draw_run
from worldr1_train.run_report import finish_report
from worldr1_train.termination import StopOnSigterm
from worldr1_train.trainer import FlowGRPOTrainer

log = get_logger(__name__)


class TrainingRun:
    """Training run with its components; weights are loaded when they are first needed.

    Args:
        plan: Plan of the run.

    Raises:
        UserError: A component cannot be created, the camera path of a prompt does not fit into a clip, or there is not
            enough disk space for the checkpoints.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self.trainer = FlowGRPOTrainer(**trainer_arguments(plan))
        self.args = self.trainer.args
        self.components = self.trainer.components.generation
        if self.trainer.evaluator is not None and plan.evaluation is not None:
            self.trainer.evaluator = with_held_out(self.trainer.evaluator, plan.evaluation)
        self._check_space()

    def execute(self) -> dict[str, Any]:
        """Evaluate, train, evaluate again and export; return the results as plain data.

        `before` evaluates the untrained model from plain Gaussian noise. If the manifest has a noise conditioner,
        `noise_only` evaluates the untrained model with it, to separate the effect of training from that of the noise.
        """
        start = time.perf_counter()
        plan, trainer, main = self.plan, self.trainer, self.trainer.accelerator.is_main_process
        if main:
            plan.output_dir.mkdir(parents=True, exist_ok=True)
            remove_unfinished(plan.output_dir)
            record_run(plan)
        trainer.accelerator.wait_for_everyone()
        before = self._evaluate_once(BEFORE, lambda keep: self._evaluate_reference(GaussianNoise(), keep))
        noise_only = None
        if plan.manifest.noise is not None:
            noise_only = self._evaluate_once(
                NOISE_ONLY, lambda keep: self._evaluate_reference(self.components.conditioner, keep)
            )
        watch = self._watch(before if noise_only is None else noise_only)
        self._train(watch)
        with trainer.averaged():
            after = self._evaluate_once(AFTER, lambda keep: trainer.evaluate_policy(show_progress=True, keep=keep))
            alarms = self._check_alarms(watch, after)
            exported = trainer.export(plan.output_dir)
            trainer.create_model_card()
        if main:
            draw_run(plan.output_dir)
        trainer.accelerator.wait_for_everyone()
        result = {
            "before": None if before is None else before.means(),
            "noise_only": None if noise_only is None else noise_only.means(),
            "after": None if after is None else after.means(),
            "change": None if before is None or after is None else summarise(compare(before, after)),
            "change_by_training": None
            if noise_only is None or after is None
            else summarise(compare(noise_only, after)),
            "trained": self._trained_metrics(),
            "alarms": [alarm.as_data() for alarm in alarms],
            "seconds": round(time.perf_counter() - start, 3),
            "output_dir": str(plan.output_dir),
            "adapter": str(exported),
            "steps": int(trainer.state.global_step),
        }
        if main:
            finish_report(plan.output_dir, result)
        return result

    def close(self) -> None:
        """Leave the process group, once a run of several processes is done.

        A process that ends within it may be aborted by the threads of the group, and the launcher then ends the others.
        """
        self.trainer.accelerator.end_training()

    def _train(self, watch: AlarmWatch | None) -> None:
        plan, trainer = self.plan, self.trainer
        for callback in (StepId(), MetricsFile(plan.output_dir), SampleVideos(trainer, plan.output_dir)):
            trainer.add_callback(callback)
        for callback in trainer.callback_handler.callbacks:
            if watch is not None and isinstance(callback, PeriodicEvaluation):
                callback.observers.append(watch.check)
        log.info(
            "training",
            steps=self.args.max_steps,
            trainable=sum(p.numel() for p in trainer.model.trainable().values()),
            micro_batches=trainer.turn_plan.per_rollout_batch,
            processes=trainer.accelerator.num_processes,
            resumed_from=None if plan.checkpoint is None else str(plan.checkpoint),
        )
        self._log_memory_estimate()
        termination = StopOnSigterm(trainer)
        trainer.add_callback(termination)
        with termination.listening():
            trainer.train(resume_from_checkpoint=None if plan.checkpoint is None else str(plan.checkpoint))

    def _log_memory_estimate(self) -> None:
        trainer = self.trainer
        needs = count_memory(
            trainer.model, self.args, list(trainer.objectives.values()), trainer.turn_plan.most_recorded_steps
        )
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

    def _check_space(self) -> None:
        bytes_of_weights = sum(p.numel() * 4 for p in self.trainer.model.trainable().values())
        copies = 4  # weights, their average, and AdamW's two moments
        if self.trainer.accelerator.is_main_process:
            self.plan.output_dir.mkdir(parents=True, exist_ok=True)
            check_free_space(
                self.plan.output_dir, bytes_of_weights * copies * (self.plan.section.checkpoints.keep + 1) + 2**20
            )

    # Evaluation and export

    def _evaluate_reference(self, conditioner: NoiseConditioner, keep: Keep) -> Evaluation:
        with self.trainer.model.reference():
            return self.trainer.evaluate_policy(conditioner, show_progress=True, keep=keep)

    def _evaluate_once(self, name: str, evaluate: Callable[[Keep], Evaluation]) -> Evaluation | None:
        """Evaluate and save the result, or load it if a resumed run has saved it before."""
        evaluator = self.trainer.evaluator
        if evaluator is None:
            return None
        path = self.plan.output_dir / name
        if path.exists():
            return Evaluation.load(path)
        log.info("evaluating", videos=len(evaluator.videos), metrics=self.plan.metrics)
        found = evaluate(self._shown(name, len(evaluator.videos)))
        if self.trainer.accelerator.is_main_process:
            found.save(path)
        self.trainer.accelerator.wait_for_everyone()
        log.info("evaluated", **{name: value for name, value in found.means().items() if value is not None})
        return found

    def _shown(self, name: str, total: int) -> Keep:
        """Return the function that writes selected videos of an evaluation."""
        evaluation = self.plan.evaluation
        count = 0 if evaluation is None else min(total, evaluation.num_shown)
        return ShownVideos(self.plan.output_dir / VIDEOS / folder_name(SHOWN_AS[name]), total, count)

    # Alarms

    def _trained_metrics(self) -> list[str]:
        """Return the names of the metrics that any stage trains on."""
        stages = self.trainer.schedule.stages
        return list(dict.fromkeys(metric_name(name) for stage in stages for name in stage.weights))

    def _watch(self, before: Evaluation | None) -> AlarmWatch | None:
        """Return the alarm watch of this run; `None` if alarms are disabled, and on all processes but the first."""
        evaluation, is_main = self.plan.evaluation, self.trainer.accelerator.is_main_process
        if before is None or evaluation is None or evaluation.alarms is None or not is_main:
            return None
        return AlarmWatch(before, self._trained_metrics(), evaluation.alarms.rule())

    def _check_alarms(self, watch: AlarmWatch | None, after: Evaluation | None) -> list[Alarm]:
        return [] if watch is None or after is None else watch.check(after, int(self.trainer.state.global_step))
