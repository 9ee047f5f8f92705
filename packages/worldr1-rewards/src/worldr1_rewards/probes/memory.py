"""Peak memory of a block of code beyond what was in memory before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass(slots=True)
class PeakMemory:
    """Result of `measure_peak`.

    Attributes:
        megabytes: Growth of the resident set (or of CUDA memory) at its peak, in MiB; `None` where the system does not
            tell.
    """

    megabytes: float | None = None


@contextlib.contextmanager
def measure_peak(device: str) -> Iterator[PeakMemory]:
    """Measure the block's peak; on the CPU this needs Linux.

    Args:
        device: Torch device on which the block works; CUDA memory is measured there, process memory elsewhere.
    """
    peak = PeakMemory()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.megabytes = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    start = _kilobytes("VmRSS") if _reset() else None
    yield peak
    stop = _kilobytes("VmHWM")
    if start is not None and stop is not None:
        peak.megabytes = max(0.0, (stop - start) / 1024)


def _reset() -> bool:
    """Set the high-water mark back to the present size; False where that is not possible."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _kilobytes(field: str) -> float | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return float(found[0]) if found else None
