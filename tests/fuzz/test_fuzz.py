"""Damaged inputs are refused with the documented errors: no crash, no hang, no unbounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CASES = {
    "request": 48_000,
    "answer": 25_000,
    "question": 10_000,
    "grade": 10_000,
    "trajectory": 15_000,
    "manifest": 5_000,
    "video": 8_000,
}
"""Together more than 100,000, in a few minutes; `WORLDR1_FUZZ_SEED` chooses others."""


def run(target: str, cases: int) -> dict:
    command = [sys.executable, "-m", "fuzz.run", target, "--cases", str(cases)]
    command += ["--seed", os.environ.get("WORLDR1_FUZZ_SEED", "0")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("target", CASES)
def test_damaged_inputs_are_refused(target):
    found = run(target, CASES[target])
    assert found["cases"] >= CASES[target]
    assert found["refused"] > found["cases"] // 4
