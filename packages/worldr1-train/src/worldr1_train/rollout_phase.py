"""Rollout phase of training: samples a rollout batch for each objective of a stage, and prepares the updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather, gather_object
from torch import Tensor

from worldr1_core.log_ids import prompt_id
from worldr1_core.objective import Objective
from worldr1_core.tracing import span
from worldr1_train.advantages import Advantages
from worldr1_train.credit import assign_credit
from worldr1_train.rollouts import RolloutBatch, RolloutRequest, SampleScore
from worldr1_train.stages import Stage
from worldr1_train.turns import count_valid_items
from worldr1_train.updates import UpdateBuffer, plan_micro_batches

if TYPE_CHECKING:
    from worldr1_train.trainer import FlowGRPOTrainer


class RolloutPhase:
    """Collects the rollouts of a trainer.

    Args:
        trainer: Trainer whose policy samples; its schedule determines the stage and the prompts.
    """

    def __init__(self, trainer: FlowGRPOTrainer) -> None:
        self._trainer = trainer

    def collect(self, rollout_batch: int) -> list[UpdateBuffer]:
        """Sample and score a rollout batch for every objective of its stage. All processes must call it.

        Returns:
            One buffer per objective.
        """
        stage = self._trainer.schedule.at(rollout_batch)
        collected = [self._collect_for(rollout_batch, index) for index in range(len(stage.objectives))]
        self._trainer.metrics.note_rollouts([rollouts for _, rollouts in collected])
        return [buffer for buffer, _ in collected]

    def _collect_for(self, rollout_batch: int, index: int) -> tuple[UpdateBuffer, RolloutBatch]:
        trainer = self._trainer
        stage = trainer.schedule.at(rollout_batch)
        weighted = stage.objectives[index]
        request = self._request(rollout_batch, weighted.objective)
        with span("rollout", rollout_batch=rollout_batch, prompts=[prompt_id(prompt) for prompt in request.prompts]):
            rollouts = trainer.collector.collect(request)
        advantages = self._advantages(stage, weighted.objective, rollouts)
        buffer = self._make_buffer(rollout_batch, index, rollouts, advantages)
        trainer.last_rollout_batch, trainer.last_advantages = rollouts, advantages
        rollouts.steps, rollouts.latents = [], []  # only the buffer keeps them, until the last update
        if not weighted.objective.plan.scored:
            rollouts.clips = []  # the videos that the update generates are shown instead
            trainer.policy.collect_shown(rollouts.clips, request.keep_clips)
        self._prepare_updates(buffer, stage, index)
        return buffer, rollouts

    def _request(self, rollout_batch: int, objective: Objective) -> RolloutRequest:
        trainer, args, plan = self._trainer, self._trainer.args, objective.plan
        rank, local = trainer.accelerator.process_index, args.prompts_per_process
        prompts = trainer.schedule.prompts(rollout_batch, args.prompts_per_rollout_batch, args.seed)
        return RolloutRequest(
            seed=args.seed,
            rollout_batch=rollout_batch,
            stage=trainer.schedule.at(rollout_batch),
            window=trainer.sampler.window(args.seed, rollout_batch) if plan.steps == "window" else (0, 0),
            prompts=prompts[rank * local : (rank + 1) * local],
            first_group=rank * local,
            keep_clips=trainer.num_clips_to_keep if rank == 0 else 0,
            plan=plan,
            parameters=objective.behaviour(),
        )

    def _advantages(self, stage: Stage, objective: Objective, rollouts: RolloutBatch) -> Advantages:
        """Return the advantages of the samples of all processes; zeros if the objective computes rewards itself."""
        trainer, args = self._trainer, self._trainer.args
        if not objective.plan.scored:
            num_groups = args.prompts_per_rollout_batch
            count = num_groups * args.num_generations
            return Advantages(torch.zeros(count), torch.ones(count, dtype=torch.bool), torch.zeros(num_groups))
        scores: list[SampleScore] = gather_object(rollouts.scores)
        advantages = assign_credit(
            objective.advantage_options, args.num_generations, stage, scores, rollouts.steps[0].sample
        )
        trainer.last_scores = scores
        trainer.metrics.note_scores(scores, advantages)
        trainer.check_failures(scores)
        return advantages

    def _make_buffer(
        self, rollout_batch: int, index: int, rollouts: RolloutBatch, advantages: Advantages
    ) -> UpdateBuffer:
        trainer, args, device = self._trainer, self._trainer.args, self._trainer.accelerator.device
        rank, num_processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
        objective = trainer.schedule.at(rollout_batch).objectives[index].objective
        local = args.prompts_per_process * args.num_generations
        own = slice(rank * local, (rank + 1) * local)
        num_chunks = local // rollouts.chunk_size
        batches = plan_micro_batches(
            num_chunks,
            rollouts.chunk_size,
            trainer.turn_plan.num_items(objective),
            args.per_device_train_batch_size,
            args.seed,
            rollout_batch,
            first_chunk=rank * num_chunks,
            unit=args.num_generations if objective.compares_videos else 1,
        )
        valid = advantages.valid[own].to(device)
        turns = trainer.turn_plan.turns(trainer.schedule.index(rollout_batch))
        counts: Tensor = count_valid_items(turns, index, batches, valid, trainer.turn_plan.per_update)
        counts = gather(counts.to(device)).view(num_processes, -1).sum(0)
        return UpdateBuffer(
            steps=rollouts.steps,
            latents=rollouts.latents,
            micro_batches=batches,
            advantages=advantages.values[own].to(device),
            valid=valid,
            num_valid_items=counts.tolist(),
            clips=[] if objective.plan.scored else list(rollouts.clips),
        )

    @torch.no_grad()
    def _prepare_updates(self, buffer: UpdateBuffer, stage: Stage, index: int) -> None:
        """Store the data that the objective prepares for each micro-batch, computed on the same micro-batches."""
        trainer = self._trainer
        trainer.policy.enter(stage, index)
        batches = [buffer.batch(number, trainer.backbone) for number in range(len(buffer.micro_batches))]
        with trainer.compute_loss_context_manager():
            found = stage.objectives[index].objective.prepare(batches, trainer.policy)
        for micro_batch, data in zip(buffer.micro_batches, found, strict=True):
            micro_batch.data = data
