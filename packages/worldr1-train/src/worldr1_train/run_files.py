"""The files in the folder of a run, read for its report; the run may be finished, stopped or still under way."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldr1_core.errors import UserError
from worldr1_core.files import atomic_write_text
from worldr1_core.provenance import versions
from worldr1_train.evaluation import Evaluation
from worldr1_train.model_card import read_evaluations
from worldr1_train.plan import RECORD

RESULT = "result.json"
"""File of a finished run with what `worldr1 train` prints, and where it ran."""
METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Contents of a run's folder.

    Attributes:
        folder: The folder.
        record: Inputs of the run, without the prompts.
        num_prompts: Split -> number of prompts.
        metrics: Logged steps, in order.
        evaluations: `"before"`, `"noise_only"` and `"after"`, as far as they are there.
        result: Result of a finished run; `None` otherwise.
        environment: Where the run took place; for an unfinished run, where it is read.
        versions: Name -> version, likewise.
    """

    folder: Path
    record: Mapping[str, Any]
    num_prompts: Mapping[str, int]
    metrics: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Evaluation]
    result: Mapping[str, Any] | None
    environment: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def section(self) -> Mapping[str, Any]:
        """Section `train` of the manifest."""
        section: Mapping[str, Any] = self.record["train"]
        return section

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the whole run; `None` before the first log."""
        if self.result is not None:
            return int(self.result["steps"])
        # The record leaves out the number of steps, which a resumed run may change; one epoch is all of them.
        shares = [(entry["step"], entry["epoch"]) for entry in self.metrics if entry.get("epoch")]
        return round(shares[-1][0] / shares[-1][1]) if shares else None

    @property
    def step(self) -> int:
        """Last logged optimiser step; 0 before the first."""
        return max((int(entry["step"]) for entry in self.metrics), default=0)

    @property
    def num_rollout_batches(self) -> int:
        """Number of rollout batches so far."""
        return int(max(self.values("rollout_batch"), default=-1)) + 1

    def values(self, name: str) -> list[float]:
        """Logged values of a metric, without missing ones."""
        return [float(entry[name]) for entry in self.metrics if isinstance(entry.get(name), int | float)]


def read_run(folder: Path) -> RunFiles:
    """Read the folder of a run.

    Raises:
        UserError: It holds no run, or a file of it cannot be read.
    """
    record = _read_json(folder / RECORD)
    if record is None:
        raise UserError(
            f"There is no run in {str(folder)!r}: it has no {RECORD}. Give the output folder of `worldr1 train`; the "
            "file is written when a run begins."
        )
    metrics = _read_metrics(folder / METRICS)
    result = _read_json(folder / RESULT)
    if result is not None and any(entry["step"] > result["steps"] for entry in metrics):
        result = None  # of an earlier end of this run, which has been resumed with more steps
    own = {} if result is None else result
    return RunFiles(
        folder=folder,
        record={key: value for key, value in record.items() if key != "prompts" and value is not None},
        num_prompts={split: len(prompts) for split, prompts in record.get("prompts", {}).items()},
        metrics=metrics,
        evaluations=read_evaluations(folder),
        result=result,
        environment=own.get("environment") or describe_environment(),
        versions=own.get("versions") or versions(),
    )


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result of a finished run, with its environment.

    Raises:
        OutputError: The file cannot be written.
    """
    content = {**result, "environment": describe_environment(), "versions": versions()}
    atomic_write_text(folder / RESULT, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def describe_environment() -> dict[str, str]:
    """Return machine, devices and number of processes, in words."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        devices = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
    else:
        devices = "CPU"
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count() or "unknown"),
        "devices": devices,
        "processes": os.environ.get("WORLD_SIZE", "1"),
    }


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}. Restore the file, or remove it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{str(path)!r} must hold a JSON object, received {type(content).__name__}. Restore the file.")
    return content


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Logged steps; the last line of a running or killed run may be incomplete, and is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}. Restore the file, or remove it.") from error
    return [entry for line in lines if line.endswith("\n") and isinstance(entry := _parse(line), dict)]


def _parse(line: str) -> Any:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None
