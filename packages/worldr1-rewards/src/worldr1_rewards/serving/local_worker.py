"""A server that this process starts for its rewards, and starts again if it dies."""

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
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, UserError, WorldR1Error
from worldr1_core.log import get_logger, is_json
from worldr1_core.manifest import ComponentSpec
from worldr1_core.placement import PlacedPart, RemoteScorer, ScoredClip
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.environments import make_environment
from worldr1_rewards.serving.served_rewards import ServedRewards

if TYPE_CHECKING:
    from worldr1_rewards.serving.placements import WorkerPlacement

log = get_logger(__name__)

_PATIENCE_SECONDS = 5.0
_STOP_SECONDS = 10.0
_DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables of torchrun, of which a worker is no part."""
_OF_AN_ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class LocalWorker(RemoteScorer):
    """Rewards in a worker of this machine.

    Args:
        config: Options of the placement.
        part: Rewards and what they read.

    Raises:
        UserError: The environment cannot be made, or the rewards cannot run in it.
        WorldR1Error: The worker could not be started.
    """

    def __init__(self, config: WorkerPlacement.Config, part: PlacedPart) -> None:
        _check_not_of_this_process(part)
        self._config, self._part = config, part
        self._folder = Path(tempfile.mkdtemp(prefix="worldr1-"))  # readable by this user alone
        self._manifest = self._folder / "manifest.yaml"
        document = _document(part, config.torch_device or part.device)
        self._manifest.write_text(json.dumps(document, indent=1), encoding="utf-8")
        self._python = _python(config, part)
        self._lock = threading.Lock()
        self._server = _Server(self._start(), self._folder)
        self._stop = weakref.finalize(self, _Server.stop, self._server)
        settings = ClientSettings(
            urls=[f"unix:{self._folder / 'socket'}"], timeout=config.timeout, patience=_PATIENCE_SECONDS
        )
        names = ", ".join(spec.name for spec in part.rewards)
        self._served = ServedRewards(ScoringClient(settings), part, f"The worker of {names}")

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.process.pid

    def score(self, clips: Sequence[Clip], rewards: Sequence[str], *, with_reference: bool) -> list[ScoredClip]:
        """See `RemoteScorer.score`."""
        for last in (False, True):
            self._ensure_running()
            try:
                return self._served.score(clips, rewards, with_reference=with_reference)
            except ScoreUnavailable:
                if last or self._server.process.poll() is None:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """End the worker."""
        self._stop()

    def _ensure_running(self) -> None:
        with self._lock:
            status = self._server.process.poll()
            if status is not None:
                log.error("worker ended and is started again", status=status)
                try:
                    self._server.process = self._start()
                except WorldR1Error as error:
                    raise ScoreUnavailable(f"the worker ended with status {status}; starting it: {error}") from error

    def _start(self) -> subprocess.Popen[str]:
        """Start the server and wait until it can score."""
        socket_path = self._folder / "socket"
        socket_path.unlink(missing_ok=True)
        command = [
            *(str(self._python), "-c", "from worldr1_core.cli import main; main()", "--log-level", "warning"),
            *(["--log-json"] if is_json() else []),
            *("serve", str(self._manifest), "--uds", str(socket_path), "--stop-with-input"),
            *("--max-batch-clips", "1", "--max-clips", "100000", "--max-frames", "1000000"),
            *("--max-pixels", str(2**31), "--max-body-mib", str(2**20), "--max-decoded-mib", str(2**20)),
            *("--start-seconds", str(self._config.start_timeout)),
        ]
        process = subprocess.Popen(
            command,
            env=_environment(isolated=self._config.environment is not None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process, which then ends the worker
        )
        said = _forward(process)
        if not _wait_for_address(process, self._config.start_timeout):
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


class _Server:
    """The process and folder of a worker, apart from it so that they can be removed when it is forgotten."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder, self._owner = process, folder, os.getpid()

    def stop(self) -> None:
        """End the process and remove its folder."""
        if os.getpid() == self._owner:  # a fork has not started it
            _end(self.process)
            shutil.rmtree(self.folder, ignore_errors=True)


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


def _document(part: PlacedPart, device: str) -> dict[str, Any]:
    """The manifest of the worker."""
    document: dict[str, Any] = {"version": 1, "seed": part.seed, "device": device}
    for key, spec in (("reconstructor", part.reconstructor), ("judge", part.judge)):
        if spec is not None:
            document[key] = spec.model_dump(mode="json")
    return {**document, "rewards": [spec.model_dump(mode="json") for spec in part.rewards]}


def _components(part: PlacedPart) -> list[tuple[str, ComponentSpec]]:
    shared = (("reconstructor", part.reconstructor), ("judge", part.judge))
    return [
        *(("reward", spec) for spec in part.rewards),
        *((kind, spec) for kind, spec in shared if spec is not None),
    ]


def _check_not_of_this_process(part: PlacedPart) -> None:
    for kind, spec in _components(part):
        owner = part.registry.find(kind, spec.name).owner
        if owner.is_process:
            raise UserError(
                f"{kind.capitalize()} {spec.name!r} is registered by {owner}, which a worker does not see. Register "
                "it in a plugin, or remove the placement."
            )


def _python(config: WorkerPlacement.Config, part: PlacedPart) -> Path:
    if config.environment is None:
        return Path(sys.executable)
    owners = {part.registry.find(kind, spec.name).owner.distribution for kind, spec in _components(part)}
    return make_environment(config.environment, sorted(owners))


def _environment(*, isolated: bool) -> dict[str, str]:
    """Variables of a worker; as many threads as here, so that sums have the same order."""
    left_out = {*_DISTRIBUTED, *(_OF_AN_ENVIRONMENT if isolated else ())}
    kept = {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith("TORCHELASTIC")}
    return {**kept, "OMP_NUM_THREADS": str(torch.get_num_threads())}
