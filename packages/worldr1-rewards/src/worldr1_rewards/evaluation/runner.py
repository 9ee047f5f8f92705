"""Measurement of many videos by several processes; the results do not depend on their number.

Every process works with one torch thread. A process that dies, for example for lack of memory, fails the video that it
was working on: the videos that were under way are tried again one by one, and the one that kills its process again is
recorded as failed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from worldr1_core.compose import compose_scoring
from worldr1_core.manifest import Manifest
from worldr1_core.plugins import installed
from worldr1_core.registry import Registry
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards.evaluation.jobs import VideoJob
from worldr1_rewards.evaluation.measure import VideoMeasurer, failed_record
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.sections import Sections

DIED = "the process that measured this video ended unexpectedly, probably for lack of memory"

Work = tuple[VideoJob, str]
"""A video and its fingerprint."""


@dataclass(frozen=True, slots=True)
class MeasurerSpec:
    """What a process needs to set up its metrics.

    Attributes:
        manifest: Options of the metrics; reconstructor, judge and device.
        metrics: Names of the rewards that are used as metrics.
        reconstructor: Name, instead of the manifest's; or `None`.
        device: Torch device, instead of the manifest's; or `None`.
        sections: Sections of the page, which are written on the way; or `None`.
    """

    manifest: Manifest
    metrics: tuple[str, ...]
    reconstructor: str | None = None
    device: str | None = None
    sections: Sections | None = None

    def build(self, registry: Registry) -> VideoMeasurer:
        """Set up the metrics, with one thread, which placed rewards take over for their workers.

        Raises:
            UserError: A metric is not available, or requires something that the manifest does not name.
        """
        with _one_thread():
            components = compose_scoring(
                self.manifest, registry, only=list(self.metrics), reconstructor=self.reconstructor, device=self.device
            )
        return VideoMeasurer(ScoringEngine(components), self.sections)


def measure_videos(
    work: Sequence[Work], spec: MeasurerSpec, *, num_workers: int, measurer: VideoMeasurer | None = None
) -> Iterator[VideoRecord]:
    """Measure videos, and return each record as soon as it is there.

    Args:
        work: Videos with fingerprints.
        spec: The metrics.
        num_workers: Processes; 1 works in this one.
        measurer: Metrics that are set up already, for this process.

    Raises:
        UserError: The metrics cannot work for any video (absent weights or extra).
    """
    if num_workers == 1 or len(work) <= 1:
        with _one_thread():
            measurer = spec.build(installed().registry) if measurer is None else measurer
            for job, fingerprint in work:
                yield measurer.measure(job, fingerprint)
        return
    interrupted: list[Work] = []
    yield from _in_pool(work, spec, num_workers, interrupted)
    for item in interrupted:
        lost: list[Work] = []
        yield from _in_pool([item], spec, 1, lost)
        yield from (failed_record(job, DIED, fingerprint) for job, fingerprint in lost)


def _in_pool(
    work: Sequence[Work], spec: MeasurerSpec, num_workers: int, interrupted: list[Work]
) -> Iterator[VideoRecord]:
    """Measure with processes; what was under way when one died is added to `interrupted`, and new ones go on."""
    waiting = list(reversed(work))
    while waiting:
        pending: dict[Future[VideoRecord], Work] = {}
        pool = ProcessPoolExecutor(
            num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(spec,)
        )
        try:
            while waiting or pending:
                while waiting and len(pending) < num_workers:
                    pending[pool.submit(_measure, *waiting[-1])] = waiting[-1]
                    waiting.pop()  # only now: `submit` fails if a process has died
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    del pending[future]
                    yield record
        except BrokenProcessPool:
            for future, item in pending.items():
                if future.done() and future.exception() is None:
                    yield future.result()
                else:
                    interrupted.append(item)
        finally:
            pool.shutdown(cancel_futures=True)


_spec: MeasurerSpec | None = None
_measurer: VideoMeasurer | None = None


def _start_worker(spec: MeasurerSpec) -> None:
    import torch

    global _spec
    torch.set_num_threads(1)
    _spec = spec


def _measure(job: VideoJob, fingerprint: str) -> VideoRecord:
    global _measurer
    if _measurer is None:
        assert _spec is not None, "the initialiser runs first"
        _measurer = _spec.build(installed().registry)
    return _measurer.measure(job, fingerprint)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
