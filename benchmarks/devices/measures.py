"""Seconds, memory and bars."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def at_most(value: float, limit: float) -> dict[str, Any]:
    """A bar; NaN misses it."""
    return {"value": value, "bar": f"<= {limit:g}", "passed": value <= limit}


def synchronize(device: str) -> None:
    """Wait until the device has done what it was asked to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(device: str, call: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of one call, and its answer."""
    synchronize(device)
    start = time.perf_counter()
    answer = call()
    synchronize(device)
    return time.perf_counter() - start, answer


def reset_peak(device: str) -> None:
    """Forget the peak of the device's memory so far."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: str) -> float | None:
    """GiB that tensors took at most on the device; `None` on the CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else None
