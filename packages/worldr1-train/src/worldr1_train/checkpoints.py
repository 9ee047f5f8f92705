"""Checkpoints of a trainer: the complete state after an optimiser step, written atomically.

A checkpoint is written to a temporary folder, synced to disk, marked as complete, and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from worldr1_core.errors import OutputError, UserError
from worldr1_core.log import get_logger
from worldr1_train.ema import ExponentialMovingAverage
from worldr1_train.updates import UpdateBuffer

if TYPE_CHECKING:
    from worldr1_train.trainer import FlowGRPOTrainer

log = get_logger(__name__)

MARKER = "complete.json"
"""File that is written last; it lists every other file of the checkpoint with its size."""

WEIGHTS = "trainable.safetensors"
AVERAGE = "ema.safetensors"
OBJECTIVES = "objectives.pt"

_NAME = re.compile(r"checkpoint-(\d+)\Z")
_TEMPORARY = ".unfinished-checkpoint-"


def find_last_checkpoint(folder: str | Path) -> Path | None:
    """Return the complete checkpoint with the highest step, or `None`; incomplete ones are skipped and logged."""
    for path in reversed(list_checkpoints(folder)):
        problem = describe_damage(path)
        if problem is None:
            return path
        log.warning("checkpoint skipped", path=str(path), problem=problem)
    return None


def list_checkpoints(folder: str | Path) -> list[Path]:
    """Return the folders named `checkpoint-N`, sorted by N."""
    folder = Path(folder)
    found = [path for path in folder.iterdir() if _NAME.match(path.name)] if folder.is_dir() else []
    return sorted(found, key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """Return N of a folder named `checkpoint-N`.

    Raises:
        ValueError: The folder has another name.
    """
    match = _NAME.match(path.name)
    if match is None:
        raise ValueError(f"A checkpoint must be named checkpoint-N, received {str(path)!r}.")
    return int(match[1])


def describe_damage(path: Path) -> str | None:
    """Return why a checkpoint is incomplete, or `None` if it is complete."""
    try:
        sizes = json.loads((path / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no readable {MARKER}: writing it was interrupted"
    for name, size in sizes.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            return f"{name} is missing, or its size has changed since it was written"
    return None


class CheckpointManager:
    """Saves and restores the state of a trainer.

    A checkpoint contains the trained parameters, their average, the optimiser, the learning rate schedule, the random
    states, and the states of `transformers.Trainer` and the objectives. A checkpoint within a rollout batch also
    contains the rollouts. Prompts, stage, window and noise are determined by seed and step.

    Args:
        trainer: Trainer whose state is saved.
    """

    def __init__(self, trainer: FlowGRPOTrainer) -> None:
        self._trainer = trainer
        self._resumed_from: Path | None = None

    def save(self) -> Path:
        """Write the state after the last optimiser step. All processes must call it.

        Returns:
            Folder of the checkpoint.

        Raises:
            OutputError: The checkpoint cannot be written. Earlier checkpoints are kept.
        """
        args, accelerator = self._trainer.args, self._trainer.accelerator
        writer = CheckpointWriter(args.output_dir, self._trainer.state.global_step, is_main=args.should_save)
        folder = writer.begin()
        accelerator.wait_for_everyone()
        try:
            with as_output_error(writer.path):
                self._write_state(folder)
        except OutputError:
            writer.discard()
            raise
        accelerator.wait_for_everyone()
        path = writer.publish()
        if args.should_save:
            rotate_checkpoints(args.output_dir, args.save_total_limit)
        accelerator.wait_for_everyone()
        return path

    def load_weights(self, checkpoint: str) -> None:
        """Load the trained parameters of a run without FSDP.

        Raises:
            UserError: The checkpoint has other parameters than the model.
        """
        saved = load_file(str(Path(checkpoint) / WEIGHTS))
        weights = self._trainer._policy_model().trainable()
        if saved.keys() != weights.keys():
            raise UserError(
                f"The parameters of checkpoint {checkpoint!r} differ from the trained parameters: the checkpoint has "
                f"{len(saved)} tensors, the model {len(weights)}. Resume with the manifest of the original run."
            )
        with torch.no_grad():
            for name, value in saved.items():
                weights[name].copy_(value)

    def load_progress(self, checkpoint: str) -> None:
        """Restore the step, and the rollouts of a checkpoint within a rollout batch.

        Raises:
            UserError: The rollouts were written by another number of processes.
        """
        trainer, self._resumed_from = self._trainer, Path(checkpoint)
        trainer._step = trainer.state.global_step * trainer.args.gradient_accumulation_steps
        if not self._is_within_rollout_batch:
            return
        path = self._resumed_from / self._rollouts_name
        if not path.is_file():
            raise UserError(
                f"Checkpoint {checkpoint!r} was written within a rollout batch, by another number of processes than "
                f"{trainer.accelerator.num_processes}. Resume with the original number of processes."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state.get("objectives", [state])  # format of versions before objectives became plugins
        trainer.buffers = [UpdateBuffer.from_state_dict(own, trainer.accelerator.device) for own in saved]

    def start_average(self) -> None:
        """Start the average from the current weights, or load the checkpoint's. Call it after `accelerator.prepare`."""
        trainer, args = self._trainer, self._trainer.args
        if args.ema_decay is None:
            return
        weights = trainer._policy_model().trainable()
        trainer.ema = ExponentialMovingAverage(weights, decay=args.ema_decay, every=args.ema_every)
        if self._resumed_from is not None:
            trainer.ema.load(self._resumed_from / self._average_name)

    def _write_state(self, folder: Path) -> None:
        from transformers.trainer import TRAINER_STATE_NAME  # a slow import that plans do not need

        trainer = self._trainer
        trainer._save_optimizer_and_scheduler(str(folder))  # with FSDP and DeepSpeed the weights too
        trainer._save_scaler(str(folder))
        trainer._save_rng_state(str(folder))
        if trainer.ema is not None and (trainer.is_fsdp_enabled or trainer.args.should_save):
            trainer.ema.save(folder / self._average_name)
        if self._is_within_rollout_batch and trainer.buffers:
            buffers = [buffer.state_dict() for buffer in trainer.buffers]
            torch.save({"objectives": buffers}, folder / self._rollouts_name)
        states = {name: objective.state_dict() for name, objective in trainer.objectives.items()}
        if any(states.values()) and (trainer.is_fsdp_enabled or trainer.args.should_save):
            torch.save(states, folder / self._objectives_name)
        if trainer.args.should_save:
            if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
                weights = trainer._policy_model().trainable()
                save_file({name: p.detach().cpu().contiguous() for name, p in weights.items()}, str(folder / WEIGHTS))
            trainer.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def load_objectives(self) -> None:
        """Load the states of the objectives from the checkpoint; call it after `Objective.start`.

        Raises:
            UserError: The checkpoint has no state for an objective that has one.
        """
        if self._resumed_from is None:
            return
        path = self._resumed_from / self._objectives_name
        states = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}
        for name, objective in self._trainer.objectives.items():
            if states.get(name):
                objective.load_state_dict(states[name])
            elif objective.state_dict():
                raise UserError(
                    f"Checkpoint {str(self._resumed_from)!r} has no state of {type(objective).__name__}: {path.name} "
                    "is missing, or was written with other objectives. Resume with the manifest and the number of "
                    "processes of the original run."
                )

    @property
    def _objectives_name(self) -> str:
        rank = self._trainer.accelerator.process_index
        return f"objectives_{rank}.pt" if self._trainer.is_fsdp_enabled else OBJECTIVES

    @property
    def _is_within_rollout_batch(self) -> bool:
        return bool(self._trainer.state.global_step % self._trainer.args.updates_per_rollout_batch)

    @property
    def _average_name(self) -> str:
        rank = self._trainer.accelerator.process_index
        return f"ema_{rank}.safetensors" if self._trainer.is_fsdp_enabled else AVERAGE

    @property
    def _rollouts_name(self) -> str:
        accelerator = self._trainer.accelerator
        return f"rollouts_{accelerator.process_index}-of-{accelerator.num_processes}.pt"


class CheckpointWriter:
    """Writes one checkpoint together with other processes.

    Args:
        folder: Folder of the run.
        step: Optimiser step, N of `checkpoint-N`.
        is_main: Whether this process creates and publishes the folder; the others only write files in between.
    """

    def __init__(self, folder: str | Path, step: int, *, is_main: bool) -> None:
        self.path = Path(folder) / f"checkpoint-{step}"
        self.temporary = Path(folder) / f"{_TEMPORARY}{step}"
        self.is_main = is_main

    def begin(self) -> Path:
        """Create an empty temporary folder (main process only), and return the folder to write to."""
        if self.is_main:
            with as_output_error(self.path):
                shutil.rmtree(self.temporary, ignore_errors=True)
                self.temporary.mkdir(parents=True)
        return self.temporary

    def publish(self) -> Path:
        """Sync, mark and rename the folder (main process only) after all processes have written; return its path."""
        if self.is_main:
            with as_output_error(self.path):
                files = sorted(path for path in self.temporary.rglob("*") if path.is_file())
                sizes = {str(path.relative_to(self.temporary)): path.stat().st_size for path in files}
                (self.temporary / MARKER).write_text(json.dumps({"files": sizes}, indent=1), encoding="utf-8")
                for path in [*files, self.temporary / MARKER]:
                    _sync(path)
                for directory in {path.parent for path in files} | {self.temporary}:
                    _sync(directory)
                self._rename()
        return self.path

    def discard(self) -> None:
        """Remove the files written so far."""
        if self.is_main:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _rename(self) -> None:
        retired = self.path.with_name(f"{_TEMPORARY}old-{self.path.name}")
        shutil.rmtree(retired, ignore_errors=True)
        if self.path.exists():
            os.replace(self.path, retired)
        os.replace(self.temporary, self.path)
        _sync(self.path.parent)
        shutil.rmtree(retired, ignore_errors=True)


def rotate_checkpoints(folder: str | Path, keep: int | None) -> None:
    """Remove all but the last `keep` complete checkpoints, and incomplete ones older than the last complete one."""
    if keep is None:
        return
    paths = list_checkpoints(folder)
    complete = [path for path in paths if describe_damage(path) is None]
    kept = complete[-keep:]
    for path in paths:
        if path not in kept and complete and checkpoint_step(path) < checkpoint_step(complete[-1]):
            shutil.rmtree(path, ignore_errors=True)


def remove_unfinished(folder: str | Path) -> None:
    """Remove the incomplete checkpoints of a killed run."""
    for path in Path(folder).glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def check_free_space(folder: str | Path, needed: int) -> None:
    """Check before a run that there is enough free space for its checkpoints.

    Args:
        folder: Existing folder to which checkpoints will be written.
        needed: Required space in bytes.

    Raises:
        OutputError: There is less free space.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"The checkpoints of this run take about {_megabytes(needed)}, but {str(folder)!r} has only "
            f"{_megabytes(free)} left. Free some space, choose another --output-dir, or lower train.checkpoints.keep."
        )


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Convert write errors to `OutputError`; torch and safetensors do not raise `OSError`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if _is_device_error(error):
            raise
        raise OutputError(
            f"Cannot write checkpoint {str(path)!r}: {error}. Earlier checkpoints are untouched. Free some space or "
            "fix the permissions, and continue with --resume."
        ) from error


def _is_device_error(error: Exception) -> bool:
    """Return whether a device failed, and not the file system; torch's own writer raises a bare `RuntimeError`."""
    return isinstance(error, RuntimeError) and (type(error) is not RuntimeError or "CUDA error" in str(error))


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
