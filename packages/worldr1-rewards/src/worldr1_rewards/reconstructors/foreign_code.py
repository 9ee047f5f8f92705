"""Isolation of third-party reconstruction code: its output, and its random numbers."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator

import torch

SEED = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Redirect prints to stderr, since stdout belongs to results, and ignore warnings about changes of torch."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def seeded(device: str) -> Iterator[None]:
    """Torch's generators, the device's too, start at `SEED` inside and are put back afterwards."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(SEED)
        yield
