"""Servers in a thread of the test, whose workers are no processes but score in a thread too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from worldr1_core.registry import register, unregister
from worldr1_core.reward import Reward
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.server import ListenSettings, make_server
from worldr1_rewards.serving.service import ScoringService, ServiceSettings
from worldr1_rewards.serving.wire_errors import RequestFailed
from worldr1_rewards.serving.worker import Worker
from worldr1_rewards.serving.worker_process import WorkerLost


class ThreadWorker:
    """The worker of `worldr1_rewards.serving.worker` without a process; `lose` makes its next batches fail."""

    pid = descriptor = None

    def __init__(self, settings):
        self.settings = settings
        self.composition, self.versions = None, {"torch": "?"}
        self.batches: list[int] = []
        self.lose = 0
        self.gate = threading.Event()
        self.gate.set()

    def start(self, timeout):
        self._worker = Worker(self.settings)
        self.composition = self._worker.composition

    def score(self, files, rewards, deadline, contexts=()):
        self.batches.append(len(files))
        self.gate.wait(20)
        if self.lose:
            self.lose -= 1
            raise WorkerLost("the worker ended with signal 9")
        outcomes = self._worker.score(files, rewards)
        return [o.payload if o.code is None else RequestFailed(o.code, o.message) for o in outcomes]

    def kill(self):
        return None


@dataclass
class RunningServer:
    """A server, the worker behind it, and clients of it."""

    url: str
    service: ScoringService
    worker: ThreadWorker
    begin_to_stop: Callable[[], None]
    _clients: list[ScoringClient] = field(default_factory=list)

    def client(self, **options) -> ScoringClient:
        client = ScoringClient(ClientSettings(**{"urls": [self.url], "timeout": 40.0, "patience": 20.0, **options}))
        self._clients.append(client)
        return client


class _ThreadServer:
    def __init__(self, settings: ServiceSettings, listen: ListenSettings) -> None:
        self._settings, self._listen = settings, listen
        self._ready, self.failure = threading.Event(), None
        self.url = ""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    async def _main(self) -> None:
        workers = []
        self.service = ScoringService(self._settings, lambda given: workers.append(ThreadWorker(given)) or workers[-1])
        self.worker = workers[0]
        await self.service.start()
        self._server = make_server(self.service, self._listen, self._announce)
        await self._server.serve()

    def _announce(self, url: str) -> None:
        self.url = url
        self._ready.set()

    def begin_to_stop(self) -> None:
        self._server.should_exit = True

    def stop(self) -> None:
        self.worker.gate.set()
        self.begin_to_stop()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "served.yaml"
    path.write_text("version: 1\ndevice: cpu\nrewards: [{name: contrast}, {name: motion}]\n")
    return path


@pytest.fixture
def start_server(manifest: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start a server: `start_server(max_requests=…, token=…, certificate=…, key=…)`."""
    servers: list[_ThreadServer] = []
    running: list[RunningServer] = []

    def start(*, path: Path = manifest, token=None, certificate=None, key=None, **options) -> RunningServer:
        listen = ListenSettings(port=0, token=token, certificate=certificate, key=key, drain_seconds=20)
        servers.append(_ThreadServer(ServiceSettings(manifest=path, **options), listen))
        own = servers[-1]
        running.append(RunningServer(own.url, own.service, own.worker, own.begin_to_stop))
        return running[-1]

    yield start
    for server in running:
        for client in server._clients:
            client.close()
    for server in servers:
        server.stop()


@pytest.fixture
def server(start_server) -> RunningServer:
    return start_server()


@pytest.fixture
def make_reward() -> Iterator[Callable[..., None]]:
    """Register a reward of this process from its `score` function: `make_reward(name, score)`."""
    names: list[str] = []

    def make(name: str, function: Callable, requires: frozenset = frozenset()) -> None:
        body = {"score": lambda self, clip, inputs: function(clip, inputs), "requires": requires}
        register("reward", name, type("TestReward", (Reward,), body))
        names.append(name)

    yield make
    for name in names:
        unregister("reward", name)
