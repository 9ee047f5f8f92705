"""SIGTERM ends a training run with a checkpoint, as schedulers of clusters expect."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from transformers import TrainerCallback

from worldr1_core.log import get_logger

if TYPE_CHECKING:
    from worldr1_train.trainer import FlowGRPOTrainer

log = get_logger(__name__)


class StopOnSigterm(TrainerCallback):
    """Stops a run after SIGTERM: between optimiser steps, between chunks of rollouts, or while it waits for scores.

    The checkpoint is that of the last optimiser step. A second SIGTERM ends the process at once.

    Args:
        trainer: Trainer that is stopped.
    """

    def __init__(self, trainer: FlowGRPOTrainer) -> None:
        self._trainer = trainer
        self._received = threading.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Return a context manager within which SIGTERM is noted; no effect outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        collector = self._trainer.collector
        collector.before_chunk, collector.while_waiting = self.check, self._check_alone
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop before the next optimiser step, when the log and the checkpoint of the last one are written."""
        self.check()

    def check(self) -> None:
        """Stop if a process has received SIGTERM. All processes must call it.

        Raises:
            TrainingStopped: One has.
        """
        received = self._received.is_set()
        if self._trainer.accelerator.num_processes > 1:
            received = any(gather_object([received]))
        if received:
            self._trainer.stop("SIGTERM was received")

    def _check_alone(self) -> None:
        """Stop while this process waits, if it need not agree with others."""
        if self._trainer.accelerator.num_processes == 1:
            self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log.warning("SIGTERM received; the run stops at the next chunk of rollouts or optimiser step")
