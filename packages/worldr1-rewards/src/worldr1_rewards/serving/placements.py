"""The places of the manifest: a server at an address, and a worker that this process starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from worldr1_core.component import ComponentConfig
from worldr1_core.errors import UserError, require
from worldr1_core.manifest import ComponentSpec
from worldr1_core.placement import ConnectedJudge, JudgePart, PlacedPart, Placement, RemoteScorer
from worldr1_rewards.serving.environments import EnvironmentOptions, made_environments
from worldr1_rewards.serving.tokens import read_token

if TYPE_CHECKING:
    from worldr1_rewards.serving.client import ScoringClient

Url = Annotated[str, Field(min_length=1, max_length=2048)]


class EndpointPlacement(Placement):
    """A server that `worldr1 serve` started, or several that share the work.

    The options of rewards, reconstructor and judge are compared with those of the server before the first clip is
    sent. A server that does not answer is asked again, and others take over; if all fail, the scores are missing.
    """

    class Config(ComponentConfig):
        """Options of the placement `endpoint`."""

        url: Url | Annotated[list[Url], Field(min_length=1, max_length=1000)] = Field(
            description="Root of the server, `http://…`, `https://…` or `unix:/…`, or a list of servers of the same "
            "manifest."
        )
        token_env: str | None = Field(
            default=None, description="Name of the environment variable that holds the server's token; null for none."
        )
        ca_file: str | None = Field(
            default=None, min_length=1, description="Certificates (PEM) that are trusted, instead of the usual ones."
        )
        timeout: float = Field(
            default=600.0, gt=0, le=86400, description="Seconds to wait for the scores of a batch, repeats included."
        )
        patience: float = Field(
            default=60.0,
            ge=0,
            le=86400,
            description="Seconds for which a server that cannot be reached is asked again.",
        )

    config: Config

    def examine(self) -> list[dict[str, Any]]:
        """Rows with `url`, `reachable`, `version`, `rewards`, `judge` and `problem`; see `Placement.examine`."""
        require("httpx", extra="worldr1-rewards[serve]")
        from worldr1_rewards.serving.endpoint_check import check_endpoint

        urls = [self.config.url] if isinstance(self.config.url, str) else self.config.url
        return [check_endpoint(url, self.config.token_env, self.config.ca_file) for url in urls]

    def connect(self, part: PlacedPart) -> RemoteScorer:
        """See `Placement.connect`.

        Raises:
            UserError: The address or the token cannot be used, or the server has other rewards.
            WorldR1Error: No server answers.
        """
        client, where = self._client()
        from worldr1_rewards.serving.served_rewards import ServedRewards

        return ServedRewards(client, part, where)

    def connect_judge(self, part: JudgePart) -> ConnectedJudge:
        """See `Placement.connect_judge`.

        Raises:
            UserError: The address or the token cannot be used, or the server has another judge.
            WorldR1Error: No server answers.
        """
        client, where = self._client()
        from worldr1_rewards.serving.served_rewards import ServedJudge

        address = ComponentSpec(name="endpoint", **self.config.model_dump(mode="json"))
        return ConnectedJudge(ServedJudge(client, part, where), address)

    def _client(self) -> tuple[ScoringClient, str]:
        """A client of the servers, and how messages call them."""
        require("httpx", extra="worldr1-rewards[serve]")
        from worldr1_rewards.serving.client import ClientSettings, ScoringClient

        config = self.config
        urls = [config.url] if isinstance(config.url, str) else config.url
        for url in urls:
            _check_url(url)
        settings = ClientSettings(
            urls=urls,
            token=None if config.token_env is None else read_token(config.token_env, "token_env"),
            ca_file=None if config.ca_file is None else Path(config.ca_file),
            timeout=config.timeout,
            patience=config.patience,
        )
        return ScoringClient(settings), f"The server at {', '.join(urls)}"


class WorkerPlacement(Placement):
    """A process that is started for the run and ends with it, on this machine.

    It is the server of `worldr1 serve` on a Unix socket. With `environment` it runs in a virtual environment of its
    own, which is made by uv before the run starts and kept for later runs.
    """

    class Config(ComponentConfig):
        """Options of the placement `worker`."""

        environment: EnvironmentOptions | None = Field(
            default=None, description="Virtual environment of the worker; null for that of this process."
        )
        torch_device: str | None = Field(
            default=None,
            pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
            description="Torch device of the worker; null for that of the manifest.",
        )
        timeout: float = Field(
            default=3600.0, gt=0, le=86400, description="Seconds for a batch, after which the worker counts as stuck."
        )
        start_timeout: float = Field(
            default=1800.0, ge=1, le=86400, description="Seconds for the worker to load its models."
        )

    config: Config

    @classmethod
    def resources(cls) -> list[dict[str, Any]]:
        """Environments that are ready; see `Placement.resources`."""
        return made_environments()

    def connect(self, part: PlacedPart) -> RemoteScorer:
        """See `Placement.connect`.

        Raises:
            UserError: The environment cannot be made, or the rewards cannot run in it.
            WorldR1Error: The worker could not be started.
        """
        self._require_extra()
        from worldr1_rewards.serving.local_worker import LocalWorker

        return LocalWorker(self.config, part)

    def connect_judge(self, part: JudgePart) -> ConnectedJudge:
        """See `Placement.connect_judge`.

        Raises:
            UserError: The environment cannot be made, or the judge cannot run in it.
            WorldR1Error: The worker could not be started.
        """
        self._require_extra()
        from worldr1_rewards.serving.local_worker import connect_local_judge

        return connect_local_judge(self.config, part)

    def _require_extra(self) -> None:
        for module in ("httpx", "fastapi", "uvicorn", "prometheus_client"):
            if module == "httpx" or self.config.environment is None:
                require(module, extra="worldr1-rewards[serve]")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UserError(
            f"The url of an endpoint is http://HOST:PORT, https://HOST:PORT or unix:/PATH, received {url!r}. A token "
            "belongs in an environment variable that token_env names."
        )
