"""Messages between a server and its workers: JSON, bytes and open files over a Unix socket.

The body of a request is handed over as an open file, which the worker maps into memory, so it is not copied.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_HEAD = struct.Struct("<IQ")
MAX_FILES = 64
_MAX_DOCUMENT = 2**28


class ConnectionLost(Exception):
    """The process at the other end is gone, or its message is cut off."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        document: JSON object.
        payload: Bytes beside it.
        files: Descriptors of open files, which the receiver must close.
    """

    document: dict[str, Any]
    payload: bytes = b""
    files: Sequence[int] = ()


def send(channel: socket.socket, message: Message) -> None:
    """Send a message; it waits while the other end does not read.

    Raises:
        ConnectionLost: The other end is gone.
        TimeoutError: The timeout of the socket has passed.
    """
    text = json.dumps(message.document).encode()
    head = _HEAD.pack(len(text), len(message.payload))
    try:
        if message.files:
            socket.send_fds(channel, [head], list(message.files))
        else:
            channel.sendall(head)
        channel.sendall(text)
        channel.sendall(message.payload)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectionLost(str(error)) from error


def receive(channel: socket.socket, deadline: float | None = None) -> Message:
    """Wait for a message.

    Args:
        channel: The socket.
        deadline: Time of `time.monotonic()` until which to wait; `None` waits without end.

    Raises:
        ConnectionLost: The other end is gone.
        TimeoutError: The deadline has passed.
    """
    try:
        channel.settimeout(_remaining(deadline))
        head, files, _, _ = socket.recv_fds(channel, _HEAD.size, MAX_FILES)
        if not head:
            raise ConnectionLost("the other process has closed the connection")
        head += _read(channel, _HEAD.size - len(head), deadline)
        length, payload_length = _HEAD.unpack(head)
        if length > _MAX_DOCUMENT:
            raise ConnectionLost(f"a message declares {length} bytes of JSON")
        document = json.loads(_read(channel, length, deadline))
        return Message(document, _read(channel, payload_length, deadline), files)
    except TimeoutError:
        raise
    except (OSError, ValueError) as error:
        raise ConnectionLost(str(error)) from error


def _read(channel: socket.socket, count: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        channel.settimeout(_remaining(deadline))
        part = channel.recv(min(count - len(parts), 2**20))
        if not part:
            raise ConnectionLost("the other process has closed the connection in the middle of a message")
        parts += part
    return bytes(parts)


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining
