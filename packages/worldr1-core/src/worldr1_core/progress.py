"""Progress on stderr: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from worldr1_core.log import get_logger

log = get_logger(__name__)

HEARTBEAT_SECONDS = 30.0
"""Seconds between log lines about a long item, if stderr is not a terminal."""


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar while the block runs; nothing where stderr is no terminal.

    Args:
        description: What goes on.
        total: Number of items.

    Yields:
        A function to call after every item.
    """
    with Progress(description, total) as progress:
        yield progress.advance


class Progress:
    """Progress over items that may take minutes each.

    On a terminal a bar names the item under way and the time since the start. Elsewhere, and in log files, an item
    that takes longer than `HEARTBEAT_SECONDS` is named in a log line again and again, so that a long one does not look
    like a process that hangs.

    Args:
        description: What goes on.
        total: Number of items.
        heartbeat: Seconds between log lines.

    Example:
        ```python
        with Progress("Scoring", len(clips)) as progress:
            for clip in clips:
                progress.begin(clip.name)
                ...
                progress.advance()
        ```
    """

    def __init__(self, description: str, total: int, *, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.description, self.total = description, total
        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        columns = (*Bar.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, disable=not self._is_terminal, transient=True)
        self._task = self._bar.add_task(description, total=total)
        self._heartbeat, self._stop = heartbeat, threading.Event()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)
        self._item: tuple[str, float] | None = None
        self._num_done = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        if not self._is_terminal:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bar.stop()

    def begin(self, item: str) -> None:
        """Name the item that is worked on from now on."""
        self._item = item, time.monotonic()
        self._bar.update(self._task, description=f"{self.description} {item}")

    def advance(self) -> None:
        """Count one item as done."""
        self._num_done += 1
        self._bar.advance(self._task)

    def _report(self) -> None:
        while not self._stop.wait(self._heartbeat):
            item = self._item
            if item is not None:
                log.info(
                    f"{self.description.lower()} goes on",
                    item=item[0],
                    seconds=round(time.monotonic() - item[1]),
                    done=f"{self._num_done}/{self.total}",
                )
