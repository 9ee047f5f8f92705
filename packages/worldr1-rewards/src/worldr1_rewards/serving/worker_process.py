"""A server's handle of one worker process: started, asked, and killed if it does not answer."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worldr1_core.errors import UserError, WorldR1Error
from worldr1_rewards.serving.composition import Composition
from worldr1_rewards.serving.messages import ConnectionLost, Message, receive, send
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc keeps freed memory up to these sizes. By default it returns large tensors to the system, whose next batch then
spends up to a quarter of its time on page faults."""


def worker_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of a worker: those of its server, and settings of the allocator unless they are given."""
    return {**_ALLOCATOR, **variables}


class WorkerLost(Exception):
    """A worker died or stopped answering; it is gone now."""


@dataclass(slots=True)
class WorkerProcess:
    """One worker process. Its methods block; call them from a thread.

    Attributes:
        settings: Manifest, rewards, device, limits and logging of the worker.
        composition: What it serves, once it is started.
        versions: Versions of Python and libraries in its environment.
    """

    settings: dict[str, Any]
    composition: Composition | None = None
    versions: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _channel: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Process id, while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def descriptor(self) -> int | None:
        """Descriptor of the connection, readable when an idle worker has ended; `None` if it is not started."""
        return None if self._channel is None else self._channel.fileno()

    def start(self, timeout: float) -> None:
        """Start the process and wait until its models are composed.

        Raises:
            UserError: The composition cannot be created; the message is that of the worker.
            WorkerLost: It died or was not ready in time.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "worldr1_rewards.serving.worker", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=worker_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                start_new_session=True,
            )
        self._channel = ours
        answer = self._exchange(Message(self.settings), time.monotonic() + timeout, "start").document
        if "error" in answer:
            self.kill()
            raise (UserError if answer["user"] else WorldR1Error)(answer["error"])
        self.composition = Composition.model_validate(answer["composition"])
        self.versions = answer["versions"]

    def score(
        self,
        files: Sequence[int],
        rewards: Sequence[str] | None,
        deadline: float,
        contexts: Sequence[Mapping[str, str]] = (),
    ) -> list[bytes | RequestFailed]:
        """Score the requests in open files, or ask the judge.

        Args:
            files: Descriptor of the body of each request.
            rewards: Rewards that all of them ask for; `None` for questions to the judge.
            deadline: Time of `time.monotonic()` after which the worker counts as stuck and is killed.
            contexts: Ids of log lines and the span of each request, see `request_context`.

        Returns:
            Per request, the body of its answer or why there is none.

        Raises:
            WorkerLost: The worker died or is stuck.
        """
        wanted = None if rewards is None else list(rewards)
        message = Message({"rewards": wanted, "contexts": [dict(own) for own in contexts]}, files=files)
        answer = self._exchange(message, deadline, "answer in time")
        outcomes: list[bytes | RequestFailed] = []
        offset = 0
        for outcome in answer.document["outcomes"]:
            if outcome["code"] is None:
                outcomes.append(answer.payload[offset : offset + outcome["length"]])
                offset += outcome["length"]
            else:
                outcomes.append(RequestFailed(ErrorCode(outcome["code"]), outcome["message"]))
        return outcomes

    def kill(self) -> int | None:
        """End the process at once, and return its exit status; a thread that waits for its answer wakes up."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # also ends a process that is stopped
        return process.wait()

    def _exchange(self, message: Message, deadline: float, purpose: str) -> Message:
        channel = self._channel
        if channel is None:
            raise WorkerLost("the worker is not running")
        try:
            channel.settimeout(max(0.001, deadline - time.monotonic()))
            send(channel, message)
            return receive(channel, deadline)
        except TimeoutError as error:
            self.kill()
            raise WorkerLost(f"the worker did not {purpose}, and was killed") from error
        except ConnectionLost as error:
            raise WorkerLost(f"the worker ended with {describe_status(self._exit_status())}") from error

    def _exit_status(self) -> int | None:
        """Exit status of a process that has closed its connection; it has a moment to end by itself."""
        if (process := self._process) is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
        return self.kill()


def describe_status(status: int | None) -> str:
    """An exit status in words: the signal, or the number."""
    if status is not None and status < 0:
        return f"signal {-status}"
    return f"exit status {status}"
