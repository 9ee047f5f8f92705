"""A replica of `worldr1 serve --engine ray`: the application and the service of a server, in a process of Ray Serve.

The requests, limits, token and answers are those of `worldr1_rewards.serving`; Ray Serve starts as many replicas as are
needed, and passes requests to them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldr1_core.log import configure_logging
from worldr1_rewards.serving.app import make_app
from worldr1_rewards.serving.service import ScoringService, ServiceSettings

_current: dict[str, Any] = {}
"""The application of this process; a replica has a process of its own."""


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What a replica needs, wherever it runs.

    Attributes:
        service: Settings of the service; its manifest file need not exist where the replica runs.
        manifest: Text of the manifest.
        token: Token that requests must bring, or `None`.
    """

    service: ServiceSettings
    manifest: str
    token: str | None = None


class Replica:
    """Scores the requests that Ray Serve passes to it.

    Its application comes from `current_app`, which `ray.serve.ingress` asks for once this object is made.

    Args:
        settings: Settings.

    Raises:
        UserError: The composition cannot be created.
        WorldR1Error: The worker could not be started.
    """

    async def __init__(self, settings: ReplicaSettings) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        configure_logging(settings.service.log_level, json=settings.service.log_json)
        self._folder = tempfile.TemporaryDirectory(prefix="worldr1-")
        manifest = Path(self._folder.name) / settings.service.manifest.name
        manifest.write_text(settings.manifest, encoding="utf-8")
        self._service = ScoringService(replace(settings.service, manifest=manifest))
        try:
            await self._service.start()
        except BaseException:
            await self._service.stop()
            raise
        _current["app"] = make_app(self._service, settings.token)  # stops the service when Ray ends the replica

    async def check_health(self) -> None:
        """Tell Ray Serve that this process answers; a lost worker is restarted by the service itself."""


def current_app() -> Any:
    """Return the application of this process."""
    return _current["app"]
