"""Rewards, or the judge, in a worker of this machine."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.judge import JudgeRequest, JudgeResult
from worldr1_core.manifest import ComponentSpec, PlacedSpec
from worldr1_core.placement import ConnectedJudge, JudgePart, PlacedPart, RemoteScorer, ScoredClip
from worldr1_core.registry import Registry
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.environments import make_environment
from worldr1_rewards.serving.local_server import LocalServer
from worldr1_rewards.serving.served_rewards import ServedJudge, ServedRewards

if TYPE_CHECKING:
    from worldr1_rewards.serving.placements import WorkerPlacement

_PATIENCE_SECONDS = 5.0

Components = Sequence[tuple[str, ComponentSpec]]
"""Kind and spec of everything that runs in a worker."""


class _OwnServer:
    """Something that asks a server which it has started."""

    def _own(self, server: LocalServer) -> None:
        self._server = server
        self._stop = weakref.finalize(self, LocalServer.stop, server)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.process.pid

    def close(self) -> None:
        """End the worker."""
        self._stop()


class LocalWorker(_OwnServer, RemoteScorer):
    """Rewards in a worker of this machine.

    Args:
        config: Options of the placement.
        part: Rewards and what they read.

    Raises:
        UserError: The environment cannot be made, or the rewards cannot run in it.
        WorldR1Error: The worker could not be started.
    """

    def __init__(self, config: WorkerPlacement.Config, part: PlacedPart) -> None:
        self._part = part  # keeps the judge, which this process starts for its workers
        judge = _with_address(part)
        shared = [("reconstructor", part.reconstructor), ("judge", judge)]
        components = [
            *(("reward", spec) for spec in part.rewards),
            *((kind, spec) for kind, spec in shared if spec is not None),
        ]
        options = [] if part.reach_judge is None else ["--ask-judge"]
        self._own(_start(config, components, part, options))
        names = ", ".join(spec.name for spec in part.rewards)
        self._served = ServedRewards(_client(config, self._server), part, f"The worker of {names}")

    def score(self, clips: Sequence[Clip], rewards: Sequence[str], *, with_reference: bool) -> list[ScoredClip]:
        """See `RemoteScorer.score`."""
        return self._server.ask(lambda: self._served.score(clips, rewards, with_reference=with_reference))


class LocalJudge(_OwnServer, ServedJudge):
    """A judge in a worker of this machine, which other workers of this process can ask too.

    Args:
        config: Options of the placement.
        part: The judge.

    Raises:
        UserError: The environment cannot be made, or the judge cannot run in it.
        WorldR1Error: The worker could not be started.
    """

    def __init__(self, config: WorkerPlacement.Config, part: JudgePart) -> None:
        self._own(_start(config, [("judge", part.judge)], part, ["--judge"]))
        super().__init__(_client(config, self._server), part, f"The worker of the judge {part.judge.name}")
        self._server.keep_running()

    def _ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        ask = super()._ask
        return self._server.ask(lambda: ask(requests))


def connect_local_judge(config: WorkerPlacement.Config, part: JudgePart) -> ConnectedJudge:
    """Start a judge in a worker; other workers wait for it as long as it may take to start again.

    Args:
        config: Options of the placement.
        part: The judge.

    Raises:
        UserError: The environment cannot be made, or the judge cannot run in it.
        WorldR1Error: The worker could not be started.
    """
    judge = LocalJudge(config, part)
    address = {"url": judge.client.settings.urls[0], "timeout": config.timeout, "patience": config.start_timeout}
    return ConnectedJudge(judge, ComponentSpec(name="endpoint", **address))


def _with_address(part: PlacedPart) -> ComponentSpec | None:
    """The judge as the rewards of a worker find it."""
    if part.judge is None or part.reach_judge is None:
        return part.judge
    return PlacedSpec(name=part.judge.name, placement=part.reach_judge(), **part.judge.options)


def _start(
    config: WorkerPlacement.Config, components: Components, part: PlacedPart | JudgePart, options: Sequence[str]
) -> LocalServer:
    _check_not_of_this_process(components, part.registry)
    document: dict[str, Any] = {"version": 1, "seed": part.seed, "device": config.torch_device or part.device}
    for kind, spec in components:
        if kind == "reward":
            document.setdefault("rewards", []).append(spec.model_dump(mode="json"))
        else:
            document[kind] = spec.model_dump(mode="json")
    return LocalServer(
        _python(config, components, part.registry),
        document,
        options,
        isolated=config.environment is not None,
        start_timeout=config.start_timeout,
    )


def _client(config: WorkerPlacement.Config, server: LocalServer) -> ScoringClient:
    return ScoringClient(ClientSettings(urls=[server.url], timeout=config.timeout, patience=_PATIENCE_SECONDS))


def _check_not_of_this_process(components: Components, registry: Registry) -> None:
    for kind, spec in components:
        owner = registry.find(kind, spec.name).owner
        if owner.is_process:
            raise UserError(
                f"{kind.capitalize()} {spec.name!r} is registered by {owner}, which a worker does not see. Register "
                "it in a plugin, or remove the placement."
            )


def _python(config: WorkerPlacement.Config, components: Components, registry: Registry) -> Path:
    if config.environment is None:
        return Path(sys.executable)
    owners = {registry.find(kind, spec.name).owner.distribution for kind, spec in components}
    return make_environment(config.environment, sorted(owners))
