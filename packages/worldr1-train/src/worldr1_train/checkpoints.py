"""Checkpoints of a trainer: complete state for the next step, written atomically.

They are written to a temporary folder, synced to disk, marked as complete, and renamed.
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
"""Written last; names every other file of the checkpoint with its size."""

WEIGHTS = "trainable.safetensors"
AVERAGE = "ema.safetensors"
OBJECTIVES = "objectives.pt"

_NAME = re.compile(r"checkpoint-(\d+)\Z")
_TEMPORARY = ".unfinished-checkpoint-"


def find_last_checkpoint(folder: str | Path) -> Path | None:
    """The complete checkpoint of the highest step, or `None`; incomplete ones are skipped and logged."""
    for path in reversed(list_checkpoints(folder)):
        problem = describe_damage(path)
        if problem is None:
            return path
        log.warning("checkpoint passed over", path=str(path), problem=problem)
    return None


def list_checkpoints(folder: str | Path) -> list[Path]:
    """Folders named `checkpoint-N`, by N."""
    folder = Path(folder)
    found = [path for path in folder.iterdir() if _NAME.match(path.name)] if folder.is_dir() else []
    return sorted(found, key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """N of `checkpoint-N`."""
    match = _NAME.match(path.name)
    if match is None:
        raise ValueError(f"{path} is not named checkpoint-N.")
    return int(match[1])


def describe_damage(path: Path) -> str | None:
    """Return why a checkpoint cannot be used, or `None`."""
    try:
        sizes = json.loads((path / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no readable {MARKER}: writing it was cut short"
    for name, size in sizes.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            return f"{name} is absent or has another size than when it was written"
    return None


class CheckpointManager:
    """Saves and restores a trainer.

    A checkpoint holds the trained parameters, their average, optimiser, learning rate schedule, random states,
    Trainer's own state, and within a rollout batch its rollouts. Prompts, stage, window and noise follow from seed and
    step.

    Args:
        trainer: Trainer whose state is saved.
    """

    def __init__(self, trainer: FlowGRPOTrainer) -> None:
        self._trainer = trainer
        self._resumed_from: Path | None = None

    def save(self) -> Path:
        """Write the state after the last optimiser step, all processes together; the checkpoint's path.

        Raises:
            OutputError: It cannot be written; earlier checkpoints stay.
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
        """Read the trained parameters of a run without FSDP.

        Raises:
            UserError: The checkpoint is of another model.
        """
        saved = load_file(str(Path(checkpoint) / WEIGHTS))
        weights = self._trainer._policy_model().trainable()
        if saved.keys() != weights.keys():
            raise UserError(
                f"Checkpoint {checkpoint!r} holds other parameters than those that are trained: "
                f"{len(saved)} against {len(weights)}. Resume with the manifest that it was made with."
            )
        with torch.no_grad():
            for name, value in saved.items():
                weights[name].copy_(value)

    def load_progress(self, checkpoint: str) -> None:
        """Continue at the checkpoint's step, with its rollouts if it lies within a rollout batch.

        Raises:
            UserError: The rollouts are of another number of processes.
        """
        trainer, self._resumed_from = self._trainer, Path(checkpoint)
        trainer._step = trainer.state.global_step * trainer.args.gradient_accumulation_steps
        if not self._is_within_rollout_batch:
            return
        path = self._resumed_from / self._rollouts_name
        if not path.is_file():
            raise UserError(
                f"Checkpoint {checkpoint!r} lies within a rollout batch and was written by another number of "
                f"processes than {trainer.accelerator.num_processes}. Resume with the same number."
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state.get("objectives", [state])  # versions before objectives were plugins had one
        trainer.buffers = [UpdateBuffer.from_state_dict(own, trainer.accelerator.device) for own in saved]

    def start_average(self) -> None:
        """Start the average from the current weights, or restore the checkpoint's; call it after `prepare`."""
        trainer, args = self._trainer, self._trainer.args
        if args.ema_decay is None:
            return
        weights = trainer._policy_model().trainable()
        trainer.ema = ExponentialMovingAverage(weights, decay=args.ema_decay, every=args.ema_every)
        if self._resumed_from is not None:
            trainer.ema.load(self._resumed_from / self._average_name)

    def _write_state(self, folder: Path) -> None:
        from transformers.trainer import TRAINER_STATE_NAME  # imported late: it takes seconds, and plans do not need it

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
        """Give every objective the state that the checkpoint holds, once the objectives have begun."""
        if self._resumed_from is None:
            return
        path = self._resumed_from / self._objectives_name
        states = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}
        for name, objective in self._trainer.objectives.items():
            if states.get(name):
                objective.load_state_dict(states[name])

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
        step: N.
        is_main: Whether this process prepares and publishes; the others only write their files in between.
    """

    def __init__(self, folder: str | Path, step: int, *, is_main: bool) -> None:
        self.path = Path(folder) / f"checkpoint-{step}"
        self.temporary = Path(folder) / f"{_TEMPORARY}{step}"
        self.is_main = is_main

    def begin(self) -> Path:
        """Make an empty temporary folder (main process); the folder to write to."""
        if self.is_main:
            with as_output_error(self.path):
                shutil.rmtree(self.temporary, ignore_errors=True)
                self.temporary.mkdir(parents=True)
        return self.temporary

    def publish(self) -> Path:
        """Sync, mark and rename (main process), once every process has written; the checkpoint's path."""
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
    """Remove all but the last `keep` complete checkpoints, and incomplete ones older than the newest complete one."""
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
    """Check that the free space suffices for the checkpoints of a run, before it begins.

    Args:
        folder: Where they will be written; it exists.
        needed: Bytes.

    Raises:
        OutputError: There is less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"The checkpoints of this run take about {_megabytes(needed)}, and {str(folder)!r} has {_megabytes(free)} "
            "left. Free some space, choose another --output-dir, or lower train.checkpoints.keep."
        )


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Convert write failures to an `OutputError` with advice; those of torch and safetensors are not OSErrors."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"Cannot write checkpoint {str(path)!r}: {error}. Earlier checkpoints are untouched: free some space or "
            "mend the permissions, and go on with --resume."
        ) from error


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
