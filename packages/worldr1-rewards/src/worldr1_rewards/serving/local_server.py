"""A server of `worldr1 serve` that this process starts on a Unix socket, and starts again if it dies."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from worldr1_core.errors import ScoreUnavailable, UserError, WorldR1Error
from worldr1_core.log import get_logger, is_json

log = get_logger(__name__)
T = TypeVar("T")

_RESTART_PAUSE_SECONDS = 1.0
_STOP_SECONDS = 10.0
_DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of torchrun, of which a worker is no part."""
_OF_AN_ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class LocalServer:
    """The process of a server, and its folder. It does not refer to what asks it, so that it ends when that is gone.

    Args:
        python: Interpreter.
        document: Manifest.
        options: Further options of `worldr1 serve`.
        isolated: Whether the interpreter belongs to another environment than this process.
        start_timeout: Seconds for it to load its models.

    Attributes:
        process: The process.
        url: Address of the server, `unix:PATH`.

    Raises:
        UserError: What the manifest names cannot run there.
        WorldR1Error: The server could not be started.
    """

    def __init__(
        self, python: Path, document: Mapping[str, Any], options: Sequence[str], *, isolated: bool, start_timeout: float
    ) -> None:
        self._python, self._options = python, options
        self._isolated, self._start_timeout = isolated, start_timeout
        self._folder = Path(tempfile.mkdtemp(prefix="worldr1-"))  # readable by this user alone
        self._socket = self._folder / "socket"
        self._manifest = self._folder / "manifest.yaml"
        self._manifest.write_text(json.dumps(document, indent=1), encoding="utf-8")
        self._owner, self._stopped, self._lock = os.getpid(), threading.Event(), threading.Lock()
        self.url = f"unix:{self._socket}"
        self.process = self._start()

    def ask(self, question: Callable[[], T]) -> T:
        """Ask the server; if it died meanwhile, ask once more after it was started again.

        Raises:
            ScoreUnavailable: There is no answer.
        """
        for last in (False, True):
            self.ensure_running()
            asked = self.process
            try:
                return question()
            except ScoreUnavailable:
                if last or asked.poll() is None:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def ensure_running(self) -> None:
        """Start the server again if it has ended.

        Raises:
            ScoreUnavailable: It could not be started.
        """
        with self._lock:
            status = self.process.poll()
            if status is not None and not self._stopped.is_set():
                log.error("worker ended and is started again", status=status)
                try:
                    self.process = self._start()
                except WorldR1Error as error:
                    raise ScoreUnavailable(f"the worker ended with status {status}; starting it: {error}") from error
                if self._stopped.is_set():  # meanwhile
                    _end(self.process)

    def keep_running(self) -> None:
        """Start the server again whenever it ends, for other processes that ask it."""

        def watch() -> None:
            while not self._stopped.is_set():
                self.process.wait()
                with contextlib.suppress(ScoreUnavailable):  # it is tried again after the pause
                    self.ensure_running()
                if self.process.poll() is not None:
                    self._stopped.wait(_RESTART_PAUSE_SECONDS)

        threading.Thread(target=watch, name="worker watch", daemon=True).start()

    def stop(self) -> None:
        """End the process and remove its folder."""
        if os.getpid() == self._owner:  # a fork has not started it
            self._stopped.set()
            _end(self.process)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[str]:
        """Start the process and wait until it can score."""
        self._socket.unlink(missing_ok=True)
        command = [
            *(str(self._python), "-c", "from worldr1_core.cli import main; main()", "--log-level", "warning"),
            *(["--log-json"] if is_json() else []),
            *("serve", str(self._manifest), "--uds", str(self._socket), "--stop-with-input", *self._options),
            *("--max-batch-clips", "1", "--max-clips", "100000", "--max-frames", "1000000"),
            *("--max-pixels", str(2**31), "--max-body-mib", str(2**20), "--max-decoded-mib", str(2**20)),
            *("--start-seconds", str(self._start_timeout)),
        ]
        process = subprocess.Popen(
            command,
            env=_environment(isolated=self._isolated),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process, which then ends the worker
        )
        said = _forward(process)
        if not _wait_for_address(process, self._start_timeout):
            _end(process)
            time.sleep(0.2)  # for the last lines
            raise _start_error(process.returncode, list(said))
        return process


def _wait_for_address(process: subprocess.Popen[str], seconds: float) -> bool:
    """Wait for the line that the server prints when it can be asked."""
    found: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: found.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    reader.join(seconds)
    return bool(found and found[0].strip())


def _start_error(status: int | None, said: Sequence[str]) -> WorldR1Error:
    errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
    message = errors[-1] if errors else "; ".join(said[-3:]) or f"it ended with status {status}"
    return (UserError if status == 2 else WorldR1Error)(f"A worker could not be started: {message}")


def _forward(process: subprocess.Popen[str]) -> collections.deque[str]:
    """Pass on the log of a process, and keep its last lines."""
    last: collections.deque[str] = collections.deque(maxlen=20)

    def pass_on() -> None:
        for line in process.stderr or ():
            last.append(line.rstrip())
            sys.stderr.write(line)

    threading.Thread(target=pass_on, name="worker log", daemon=True).start()
    return last


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(*, isolated: bool) -> dict[str, str]:
    """Variables of a worker; as many threads as here, so that sums have the same order."""
    left_out = {*_DISTRIBUTED, *(_OF_AN_ENVIRONMENT if isolated else ())}
    kept = {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith("TORCHELASTIC")}
    return {**kept, "OMP_NUM_THREADS": str(torch.get_num_threads())}
