"""The tests that need a GPU, in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from devices.measures import at_most

MAX_SECONDS = 170


def run_tests(device: str, quick: bool) -> dict[str, Any]:
    """Counts of the tests marked `gpu`; one that is skipped counts as not passed."""
    if quick or not device.startswith("cuda"):
        return {"skipped": "--quick leaves the tests out" if quick else f"they need CUDA, and the device is {device}"}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)
    print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
    last = (done.stdout.splitlines() or [""])[-1]
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    missed = sum(counts.get(what, 0) for what in ("failed", "skipped", "error"))
    return {
        **{what: counts.get(what, 0) for what in ("passed", "failed", "skipped", "error")},
        "exit_status": done.returncode,
        "bars": {"exit_status": at_most(done.returncode, 0), "not_passed": at_most(missed, 0)},
    }
