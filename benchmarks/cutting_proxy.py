"""A TCP proxy that cuts and delays what connections carry, for tests and soaks of clients and servers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Literal, Self

Direction = Literal["request", "answer"]
_PART = 2**16


class CuttingProxy:
    """Forwards connections to a server on the loopback interface.

    Args:
        port: Port of the server.

    Attributes:
        url: Address of the proxy.
        num_cut: Connections that were cut so far.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._cuts: dict[Direction, int] = {}
        self._delay = 0.0
        self.num_cut = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._listener.close()

    def cut_next(self, direction: Direction, num_bytes: int) -> None:
        """Cut one connection after so many bytes of one part of data in this direction."""
        with self._lock:
            self._cuts[direction] = num_bytes

    def delay_next(self, seconds: float) -> None:
        """Hold back one part of an answer for so long."""
        with self._lock:
            self._delay = seconds

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the proxy was closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                for pair in ((client, server, "request"), (server, client, "answer")):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        forwarded = 0
        with contextlib.suppress(OSError):
            while part := source.recv(_PART):
                if direction == "answer":
                    time.sleep(self._take_delay())
                allowed = self._allowed(direction, forwarded, len(part))
                if allowed is not None:
                    sink.sendall(part[:allowed])
                    _reset(source, sink)
                    return
                sink.sendall(part)
                forwarded += len(part)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _take_delay(self) -> float:
        with self._lock:
            seconds, self._delay = self._delay, 0.0
        return seconds

    def _allowed(self, direction: Direction, forwarded: int, size: int) -> int | None:
        """Bytes of a part that are let through before the connection is cut; `None` if it is not."""
        with self._lock:
            limit = self._cuts.get(direction)
            if limit is None or forwarded + size <= limit:
                return None
            del self._cuts[direction]
            self.num_cut += 1
            return max(0, limit - forwarded)


def _reset(*ends: socket.socket) -> None:
    """Close connections at once, also while another thread reads from them."""
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
        end.close()
