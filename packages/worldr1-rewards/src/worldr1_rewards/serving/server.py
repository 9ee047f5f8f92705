"""Runs a server until it is told to stop; then it finishes what it has begun."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from worldr1_core.errors import UserError
from worldr1_core.log import get_logger
from worldr1_rewards.serving.app import make_app
from worldr1_rewards.serving.service import ScoringService, ServiceSettings

log = get_logger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Time that an idle connection stays open; clients close theirs earlier, so that none is used while it closes."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """Where a server listens, and who may ask.

    Attributes:
        host: Address.
        port: Port; 0 for any free one.
        socket_path: Unix socket to listen on, instead of address and port.
        token: Token that requests must bring, or `None`.
        certificate: File of the TLS certificate, or `None` for plain HTTP.
        key: File of its private key.
        drain_seconds: Time to finish requests after SIGTERM.
        stop_with_input: Stop when the standard input ends, as it does when the parent process is gone.
    """

    host: str = "127.0.0.1"
    port: int = 8100
    socket_path: Path | None = None
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    drain_seconds: float = 60.0
    stop_with_input: bool = False

    def check(self) -> None:
        """Refuse settings that would let strangers in.

        Raises:
            UserError: The address can be reached from outside and there is no token, or certificate and key are not
                given together, or a file is missing.
        """
        if self.socket_path is None and self.host not in LOOPBACK and self.token is None:
            raise UserError(
                f"--host {self.host!r} can be reached from outside, and the server has no token. Set an environment "
                "variable to a secret and name it in --token-env, or listen on 127.0.0.1."
            )
        if (self.certificate is None) != (self.key is None):
            raise UserError("--tls-cert and --tls-key belong together. Give both, or neither.")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UserError(f"TLS file {str(path)!r} does not exist.")


def run_server(settings: ServiceSettings, listen: ListenSettings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests that are under way are finished.

    Args:
        settings: What is served.
        listen: Where.
        announce: Called with the address once the server can be asked.

    Raises:
        UserError: The settings or the composition cannot be used, or the address is taken.
        WorldR1Error: No worker could be started.
    """
    listen.check()
    asyncio.run(_serve(settings, listen, announce))


async def _serve(settings: ServiceSettings, listen: ListenSettings, announce: Callable[[str], None]) -> None:
    service = ScoringService(settings)
    server = make_server(service, listen, announce)
    if listen.stop_with_input:
        when_input_ends(lambda: setattr(server, "should_exit", True))
    try:
        await service.start()
        await server.serve()
    except SystemExit as error:  # uvicorn has logged why
        raise UserError(f"The server cannot listen on {address_of(listen, listen.port)}: is it in use?") from error
    finally:
        await service.stop()


def make_server(service: ScoringService, listen: ListenSettings, announce: Callable[[str], None]) -> uvicorn.Server:
    """Make the HTTP server of a service that has been started.

    Args:
        service: Service that scores.
        listen: Where the server listens.
        announce: Called with the address once the server can be asked.
    """
    config = uvicorn.Config(
        make_app(service, listen.token),
        host=listen.host,
        port=listen.port,
        uds=None if listen.socket_path is None else str(listen.socket_path),
        ssl_certfile=None if listen.certificate is None else str(listen.certificate),
        ssl_keyfile=None if listen.key is None else str(listen.key),
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(listen.drain_seconds)),
    )
    return _Server(config, service, announce, listen)


class _Server(uvicorn.Server):
    """Announces its address, and says that it stops."""

    def __init__(
        self, config: uvicorn.Config, service: ScoringService, announce: Callable[[str], None], listen: ListenSettings
    ) -> None:
        super().__init__(config)
        self._service, self._announce, self._listen = service, announce, listen

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after the requests under way. The signal is not raised again: to stop is no failure."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self._listen.port
            if self._listen.socket_path is None:
                port = self.servers[0].sockets[0].getsockname()[1]
            self._announce(address_of(self._listen, port))

    async def shutdown(self, sockets: list | None = None) -> None:
        log.info("stopping", requests_under_way=self._service.queue.num_requests)
        await super().shutdown(sockets)


def address_of(listen: ListenSettings, port: int) -> str:
    """Return the address of a server.

    Args:
        listen: Where it listens.
        port: Its port, which may have been chosen by the system.
    """
    if listen.socket_path is not None:
        return f"unix:{listen.socket_path}"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{'http' if listen.certificate is None else 'https'}://{host}:{port}"


def when_input_ends(stop: Callable[[], None]) -> None:
    """Call a function when the parent closes the pipe to this process, however the parent ends."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=watch, name="parent", daemon=True).start()
