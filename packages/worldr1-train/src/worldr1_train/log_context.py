"""Ids of a training run in its log lines: run, process and step."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from structlog.contextvars import bind_contextvars, unbind_contextvars
from transformers import TrainerCallback

from worldr1_core.log_ids import bound_ids


def run_ids(output_dir: Path) -> AbstractContextManager[Any]:
    """Bind `run`, the name of the output folder, and with several processes `rank` to log lines.

    Args:
        output_dir: Folder of the run.
    """
    return bound_ids(run=output_dir.resolve().name, rank=os.environ.get("RANK"))


class StepId(TrainerCallback):
    """Binds `step` to log lines: the number of the optimiser step that is under way, as in `metrics.jsonl`."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bind the step."""
        bind_contextvars(step=state.global_step + 1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Unbind the step."""
        unbind_contextvars("step")
