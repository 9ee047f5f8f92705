"""How the trainer saves itself and goes on: everything that the next step depends on, and nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers.trainer import TRAINER_STATE_NAME

from worldr1_core.errors import OutputError, UserError
from worldr1_core.log import get_logger
from worldr1_train.checkpoints import CheckpointWriter, as_output_error, rotate_checkpoints
from worldr1_train.ema import ExponentialMovingAverage
from worldr1_train.policy_model import PolicyModel
from worldr1_train.updates import UpdateBuffer

if TYPE_CHECKING:
    from worldr1_train.config import FlowGRPOConfig

log = get_logger(__name__)

WEIGHTS = "trainable.safetensors"
AVERAGE = "ema.safetensors"


class CheckpointingMixin:
    """Overrides `transformers.Trainer`'s checkpoints.

    A checkpoint holds the trained parameters, their average, optimiser, learning rate schedule, random states,
    Trainer's own state, and within a rollout batch its rollouts. Prompts, stage, window and noise follow from seed and
    step.
    """

    args: FlowGRPOConfig
    accelerator: Any
    state: Any
    ema: ExponentialMovingAverage | None
    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool
    _buffer: UpdateBuffer | None
    _step: int
    _resumed_from: Path | None = None

    def _policy_model(self) -> PolicyModel:
        raise NotImplementedError

    def write_checkpoint(self) -> Path:
        """Write the state after the last optimiser step, all processes together; the checkpoint's path.

        Raises:
            OutputError: It cannot be written; earlier checkpoints stay.
        """
        writer = CheckpointWriter(self.args.output_dir, self.state.global_step, is_main=self.args.should_save)
        folder = writer.begin()
        self.accelerator.wait_for_everyone()
        try:
            with as_output_error(writer.path):
                self._write_state(folder)
        except OutputError:
            writer.discard()
            raise
        self.accelerator.wait_for_everyone()
        path = writer.publish()
        if self.args.should_save:
            rotate_checkpoints(self.args.output_dir, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()
        return path

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.store_flos()  # type: ignore[attr-defined]
        self.write_checkpoint()

    def _write_state(self, folder: Path) -> None:
        trainer: Any = self
        trainer._save_optimizer_and_scheduler(str(folder))  # with FSDP and DeepSpeed the weights too
        trainer._save_scaler(str(folder))
        trainer._save_rng_state(str(folder))
        if self.ema is not None and (self.is_fsdp_enabled or self.args.should_save):
            self.ema.save(folder / self._average_name)
        if self._is_within_rollout_batch and self._buffer is not None:
            torch.save(self._buffer.state_dict(), folder / self._rollouts_name)
        if self.args.should_save:
            if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
                weights = self._policy_model().trainable()
                save_file({name: p.detach().cpu().contiguous() for name, p in weights.items()}, str(folder / WEIGHTS))
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    @property
    def _is_within_rollout_batch(self) -> bool:
        return bool(self.state.global_step % self.args.updates_per_rollout_batch)

    @property
    def _average_name(self) -> str:
        return f"ema_{self.accelerator.process_index}.safetensors" if self.is_fsdp_enabled else AVERAGE

    @property
    def _rollouts_name(self) -> str:
        return f"rollouts_{self.accelerator.process_index}-of-{self.accelerator.num_processes}.pt"

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = load_file(str(Path(resume_from_checkpoint) / WEIGHTS))
        weights = self._policy_model().trainable()
        if saved.keys() != weights.keys():
            raise UserError(
                f"Checkpoint {resume_from_checkpoint!r} holds other parameters than those that are trained: "
                f"{len(saved)} against {len(weights)}. Resume with the manifest that it was made with."
            )
        with torch.no_grad():
            for name, value in saved.items():
                weights[name].copy_(value)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is None:
            return
        self._resumed_from = Path(checkpoint)
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        if not self._is_within_rollout_batch:
            return
        path = self._resumed_from / self._rollouts_name
        if not path.is_file():
            raise UserError(
                f"Checkpoint {checkpoint!r} lies within a rollout batch and was written by another number of "
                f"processes than {self.accelerator.num_processes}. Resume with the same number."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        self._buffer = UpdateBuffer.from_state_dict(state, self.accelerator.device)

    def _start_average(self) -> None:
        """Begin the average with the weights as they are, or go on with the checkpoint's; after `prepare`."""
        if self.args.ema_decay is None:
            return
        self.ema = ExponentialMovingAverage(
            self._policy_model().trainable(), decay=self.args.ema_decay, every=self.args.ema_every
        )
        if self._resumed_from is not None:
            self.ema.load(self._resumed_from / self._average_name)
