"""`worldr1 eval --engine ray`: sets of videos in folders and buckets, measured by the workers of a cluster."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldr1_core.errors import UserError, VideoError
from worldr1_core.plugins import installed
from worldr1_rewards.evaluation.api import evaluate
from worldr1_rewards.evaluation.jobs import VideoJob
from worldr1_rewards.evaluation.measure import VideoMeasurer, failed_record
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.result import EvalResult
from worldr1_rewards.evaluation.runner import MeasurerSpec, Work
from worldr1_rewards.ray_engine.cluster import WorkerOptions, ray_cluster
from worldr1_rewards.ray_engine.remote_files import Mirror
from worldr1_rewards.ray_engine.scoring import RemoteRequest, mirror_all, url_of, with_address
from worldr1_rewards.ray_engine.tasks import run_tasks


def evaluate_videos(
    videos: Mapping[str, str | Path], *args: Any, workers: WorkerOptions | None = None, **options: Any
) -> EvalResult:
    """Measure sets of videos on a Ray cluster, as `worldr1_rewards.evaluate` does with processes of one machine.

    Args:
        videos: Name -> folder, or address of a folder in a bucket (`s3://bucket/videos`).
        *args: As for `worldr1_rewards.evaluate`.
        workers: Workers.
        **options: As for `worldr1_rewards.evaluate`, without `num_workers`.

    Raises:
        UserError: Videos and prompts do not match, or an argument cannot be used.
        WorldR1Error: The cluster cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="worldr1-") as folder:
        paths, mirrors = mirror_all(list(videos.values()), Path(folder))
        measure = functools.partial(_measure, mirrors=mirrors, workers=workers or WorkerOptions())
        try:
            return evaluate(dict(zip(videos, paths, strict=True)), *args, measure=measure, **options)
        except UserError as error:
            raise type(error)(_with_addresses(str(error), mirrors)) from error


def _with_addresses(message: str, mirrors: Sequence[Mirror]) -> str:
    for own in mirrors:
        message = message.replace(str(own.path), own.url)
    return message


def _measure(
    work: Sequence[Work], spec: MeasurerSpec, *, mirrors: Sequence[Mirror], workers: WorkerOptions
) -> Iterator[VideoRecord]:
    """Measure videos, and return each record as soon as it is there."""
    if not work:
        return
    tasks = [RemoteWork(job, mark, _address(job, mirrors)) for job, mark in work]
    with ray_cluster(workers.num_workers or 1) as resources:
        for result in run_tasks(tasks, _Build(spec), workers, resources):
            job, fingerprint = work[result.index]
            yield result.value or failed_record(job, result.failure, fingerprint)


def _address(job: VideoJob, mirrors: Sequence[Mirror]) -> str | None:
    return None if job.request is None else url_of(job.request.video, mirrors)


@dataclass(frozen=True, slots=True)
class RemoteWork:
    """A video to be measured, which may have to be copied first.

    Attributes:
        job: The video; its file is a placeholder if there is an address.
        fingerprint: Digest of video, command and settings.
        url: Address of the video, or `None` for a local one.
    """

    job: VideoJob
    fingerprint: str
    url: str | None


@dataclass(frozen=True, slots=True)
class _Build:
    """Sets up the metrics of a worker."""

    spec: MeasurerSpec

    def __call__(self) -> Callable[[RemoteWork], VideoRecord]:
        return functools.partial(_measure_one, self.spec.build(installed().registry))


def _measure_one(measurer: VideoMeasurer, work: RemoteWork) -> VideoRecord:
    """Measure one video in a worker."""
    job = work.job
    if work.url is None or job.request is None:
        return measurer.measure(job, work.fingerprint)
    source = RemoteRequest(job.request, work.url)
    try:
        with source.local() as request:
            record = measurer.measure(replace(job, request=request), work.fingerprint)
    except VideoError as error:
        return failed_record(job, str(error), work.fingerprint)
    if record.error is None:
        return record
    return replace(record, error=with_address(record.error, request, source))
