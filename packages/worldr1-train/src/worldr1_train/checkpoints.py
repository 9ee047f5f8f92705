"""Checkpoints that are whole or not there: written beside their place, synced to the disk, marked, and renamed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from worldr1_core.errors import OutputError
from worldr1_core.log import get_logger

log = get_logger(__name__)

MARKER = "complete.json"
"""Written last; names every other file of the checkpoint with its size."""

_NAME = re.compile(r"checkpoint-(\d+)\Z")
_TEMPORARY = ".unfinished-checkpoint-"


def find_last_checkpoint(folder: str | Path) -> Path | None:
    """The complete checkpoint of the highest step, or `None`; torn ones are passed over, and told in the log."""
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
    """Why a checkpoint cannot be used, or `None`."""
    try:
        sizes = json.loads((path / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no readable {MARKER}: writing it was cut short"
    for name, size in sizes.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            return f"{name} is absent or has another size than when it was written"
    return None


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
        """Remove what was written so far."""
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
    """Remove all but the last `keep` complete checkpoints, and torn ones older than the newest complete one."""
    if keep is None:
        return
    paths = list_checkpoints(folder)
    complete = [path for path in paths if describe_damage(path) is None]
    kept = complete[-keep:]
    for path in paths:
        if path not in kept and complete and checkpoint_step(path) < checkpoint_step(complete[-1]):
            shutil.rmtree(path, ignore_errors=True)


def remove_unfinished(folder: str | Path) -> None:
    """Remove what a killed run left half-written."""
    for path in Path(folder).glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def check_free_space(folder: str | Path, needed: int) -> None:
    """Compare the free space with what the checkpoints of a run will take, before it begins.

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
    """Failures to write become an `OutputError` that says what to do; those of torch and safetensors are no OSError."""
    from safetensors import SafetensorError

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
