"""Progress of a training run on stderr: a progress bar on a terminal, otherwise a log line every 30 seconds."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from worldr1_core.log import get_logger

log = get_logger(__name__)

INTERVAL_SECONDS = 30.0
"""Seconds between log lines."""

SHOWN = ("reward", "kl", "loss")
"""Metrics shown beside the progress bar."""


class ProgressLines:
    """Logs the progress of a run at regular intervals, independent of the duration of its steps.

    Args:
        total: Optimiser steps of the run.
        done: Optimiser steps completed before a resume.
        interval: Seconds between log lines.
        clock: Returns a monotonic time in seconds.
        wait: Waits for a number of seconds and returns whether to stop; called in a thread.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        *,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._total, self._first, self._done = total, done, done
        self._clock, self._start, self._last_step = clock, clock(), clock()
        self._interval = interval
        self._reward: float | None = None
        self._stopped = threading.Event()
        self._wait = self._stopped.wait if wait is None else wait
        self._thread = threading.Thread(target=self.run, name="training-progress", daemon=True)

    def start(self) -> None:
        """Start logging in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop logging."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def advance(self, done: int) -> None:
        """Set the number of completed optimiser steps."""
        self._done, self._last_step = done, self._clock()

    def note_reward(self, reward: float) -> None:
        """Set the mean reward of the last rollout batch."""
        self._reward = reward

    def run(self) -> None:
        """Log a line after every interval until stopped."""
        while not self._wait(self._interval):
            log.info("training progress", **self.line())

    def line(self) -> dict[str, Any]:
        """Return the completed steps, the mean reward of the last rollout batch, and the time left as `h:mm:ss`."""
        return {
            "steps": f"{self._done}/{self._total}",
            "reward": None if self._reward is None else round(self._reward, 4),
            "time_left": self._time_left() or "unknown until the first step is done",
        }

    def _time_left(self) -> str | None:
        steps = self._done - self._first
        if steps == 0:
            return None
        per_step = (self._last_step - self._start) / steps
        since_step = self._clock() - self._last_step
        seconds = max(0.0, per_step * (self._total - self._done) - since_step)
        return str(datetime.timedelta(seconds=round(seconds)))


class TrainingProgress(TrainerCallback):
    """Shows progress on the first process: a bar if stderr is a terminal, log lines otherwise."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[shown]}"))
        self._bar = Progress(*columns, *times, console=console, transient=True)
        self._task: Any = None
        self._lines: ProgressLines | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar or the log lines."""
        if not state.is_world_process_zero:
            return
        if self._is_terminal:
            self._bar.start()
            self._task = self._bar.add_task("Training", total=state.max_steps, completed=state.global_step, shown="")
        else:
            self._lines = ProgressLines(state.max_steps, state.global_step)
            self._lines.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance to the current step."""
        if self._task is not None:
            self._bar.update(self._task, completed=state.global_step)
        if self._lines is not None:
            self._lines.advance(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the last metrics."""
        if logs is None:
            return
        if self._task is not None:
            shown = "  ".join(f"{name} {logs[name]:.4g}" for name in SHOWN if name in logs)
            self._bar.update(self._task, shown=shown)
        if self._lines is not None and "reward" in logs:
            self._lines.note_reward(logs["reward"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the bar."""
        self.stop()

    def stop(self) -> None:
        """Stop the bar or the log lines; also called after an error."""
        self._bar.stop()
        if self._lines is not None:
            self._lines.stop()
            self._lines = None
        self._task = None
