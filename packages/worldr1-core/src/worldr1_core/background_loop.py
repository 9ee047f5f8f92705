"""One event loop in a thread of its own, for asynchronous functions that synchronous code calls."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result.

    Works where an event loop runs already, as in a notebook. All coroutines share one loop, so that connections which
    an asynchronous function keeps stay usable from call to call.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop(os.getpid()))
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@functools.cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """The loop of a process; a fork has none of its parent's threads and needs its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"worldr1-async-{process}", daemon=True).start()
    return loop
