"""`worldr1 serve --engine ray`: deploys the application, and removes it when the command is stopped."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.log import get_logger
from worldr1_rewards.ray_engine.cluster import ray_cluster
from worldr1_rewards.ray_engine.deployment import NAME, Scale, make_application
from worldr1_rewards.serving.server import KEEP_ALIVE_SECONDS, ListenSettings, address_of, when_input_ends
from worldr1_rewards.serving.service import ServiceSettings

log = get_logger(__name__)


def run_on_ray(
    settings: ServiceSettings, listen: ListenSettings, scale: Scale, announce: Callable[[str], None]
) -> None:
    """Serve on a Ray cluster until SIGTERM or SIGINT; then replicas finish their requests.

    Args:
        settings: What every replica serves.
        listen: Where the proxies of Ray Serve listen, on every node.
        scale: Replicas.
        announce: Called with the address once a replica can be asked.

    Raises:
        UserError: The settings or the composition cannot be used.
        WorldR1Error: The cluster cannot be used, or no replica could be started.
    """
    listen.check()
    if listen.socket_path is not None:
        raise UserError("--uds does not go with --engine ray, which listens on an address and port.")
    with ray_cluster(round(scale.max_replicas * scale.cpus) + 1):
        from ray import serve

        stop = _stop_event(with_input=listen.stop_with_input)  # only now: Ray sets signal handlers of its own
        application = make_application(settings, listen.token, scale, listen.drain_seconds)
        port = listen.port or _free_port(listen.host)
        serve.start(http_options=_http_options(listen, port), proxy_location="EveryNode")
        try:
            _deploy(application)
            announce(address_of(listen, port))
            stop.wait()
            log.info("stopping")
        finally:
            serve.delete(NAME)
            serve.shutdown()


def _http_options(listen: ListenSettings, port: int) -> dict[str, Any]:
    options: dict[str, Any] = {"host": listen.host, "port": port, "keep_alive_timeout_s": KEEP_ALIVE_SECONDS}
    if listen.certificate is not None:
        options |= {"ssl_certfile": str(listen.certificate), "ssl_keyfile": str(listen.key)}
    return options


def _deploy(application: Any) -> None:
    from ray import serve

    try:
        serve.run(application, name=NAME, route_prefix="/")
    except RuntimeError as error:
        status = serve.status().applications.get(NAME)
        messages = [] if status is None else [d.message for d in status.deployments.values() if d.message]
        raise WorldR1Error(f"No replica could be started: {_last_line(messages) or error}") from error


def _last_line(messages: list[str]) -> str:
    """Return the line that says why a replica failed: the exception at the end of its traceback."""
    lines = [line.strip() for message in messages for line in message.splitlines() if "Error: " in line]
    return lines[-1] if lines else ""


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _stop_event(*, with_input: bool) -> threading.Event:
    """Return an event that is set by SIGTERM, SIGINT and, if asked for, by the end of the standard input."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if with_input:
        when_input_ends(stop.set)
    return stop
