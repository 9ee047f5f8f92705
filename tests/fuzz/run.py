"""Fuzz one reader: `python -m fuzz.run TARGET --cases N` in the folder `tests`; the last line is JSON.

A case fails with any error other than the documented ones, if its block takes more CPU time than `EXAMPLE_SECONDS`, or
if the process grows by more than `MEMORY_MIB`; the input is then printed. A process that crashes or hangs says where in
its traceback. Hypothesis draws the seed of each block of cases.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import resource
import signal
import sys
import time
from random import Random
from types import FrameType

from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, opened
from worldr1_core.log import configure_logging

PER_EXAMPLE = 50
EXAMPLE_SECONDS = 30.0
HANG_SECONDS = 300.0
MEMORY_MIB = 1024


def fuzz(name: str, cases: int, number: int) -> dict[str, object]:
    """Read damaged inputs, and return how many were refused and how many were still valid."""
    refused = accepted = 0
    with opened(name) as target:
        before = _peak_mib()
        _limit_memory()

        @seed(number)
        @settings(
            max_examples=-(-cases // PER_EXAMPLE),
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.integers(0, 2**64 - 1))
        def read(example: int) -> None:
            nonlocal refused, accepted
            draw = Random(example)
            watch.renew()
            signal.setitimer(signal.ITIMER_PROF, EXAMPLE_SECONDS)
            for _ in range(PER_EXAMPLE):
                case = target.make(draw)
                try:
                    target.read(case)
                    accepted += 1
                except target.allowed:
                    refused += 1
                except BaseException:
                    note(f"input: {case!r}")
                    raise
            signal.setitimer(signal.ITIMER_PROF, 0)

        start, watch = time.monotonic(), _HangWatch()
        read()
        faulthandler.cancel_dump_traceback_later()
    grown = _peak_mib() - before
    assert grown < MEMORY_MIB, f"the process grew by {grown:.0f} MiB"
    return {
        "target": name,
        "cases": refused + accepted,
        "refused": refused,
        "accepted": accepted,
        "seconds": round(time.monotonic() - start, 1),
        "grown_mib": round(grown),
    }


class _HangWatch:
    """Ends the process with a traceback if no case has begun for `HANG_SECONDS`, wherever it hangs."""

    def __init__(self) -> None:
        self._renewed = -HANG_SECONDS

    def renew(self) -> None:
        """Begin to count again; now and then, since it takes a thread each time."""
        if time.monotonic() - self._renewed > HANG_SECONDS / 10:
            self._renewed = time.monotonic()
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"a block of {PER_EXAMPLE} cases took more than {EXAMPLE_SECONDS:g} s of CPU time")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _limit_memory() -> None:
    """More than the growth that is allowed, so that a huge allocation fails instead of filling the machine."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 8 * MEMORY_MIB * 2**20, resource.RLIM_INFINITY))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGPROF, _too_slow)
    configure_logging("error")
    logging.disable(logging.ERROR)
    sys.stdout.write(json.dumps(fuzz(args.target, args.cases, args.seed)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
