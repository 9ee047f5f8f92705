"""`worldr1 score --engine ray`: the clips of folders and buckets, scored by the workers of a cluster."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worldr1_core.clip import Clip
from worldr1_core.compose import compose_scoring
from worldr1_core.errors import UserError
from worldr1_core.manifest import Manifest
from worldr1_core.manifest_forms import ManifestLike
from worldr1_core.plugins import installed
from worldr1_core.progress import Progress
from worldr1_core.provenance import versions
from worldr1_core.reward_choice import choose_rewards
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards.addresses import is_remote
from worldr1_rewards.evaluation.jobs import VideoJob
from worldr1_rewards.inputs import ScoreRequest, collect_requests, load_request
from worldr1_rewards.ray_engine.cluster import WorkerOptions, ray_cluster
from worldr1_rewards.ray_engine.records import RecordStore
from worldr1_rewards.ray_engine.remote_files import Mirror, fetched, mirror
from worldr1_rewards.ray_engine.tasks import run_tasks
from worldr1_rewards.scoring import read_scoring_manifest
from worldr1_rewards.serialise import score_line


@dataclass(frozen=True, slots=True)
class ScoredVideo:
    """Outcome of one clip.

    Attributes:
        line: Its JSON line, as `worldr1 score` prints it; empty without one.
        error: Why there is none.
    """

    line: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """What a worker needs to set up the rewards.

    Attributes:
        manifest: The manifest.
        rewards: Names of the rewards, or `None` for all of the manifest.
    """

    manifest: Manifest
    rewards: tuple[str, ...] | None

    def build(self) -> Callable[[RemoteRequest], ScoredVideo]:
        """Set up the rewards, and return the function that scores a clip.

        Raises:
            UserError: A reward is not available.
        """
        only = None if self.rewards is None else list(self.rewards)
        engine = ScoringEngine(compose_scoring(self.manifest, installed().registry, only=only))
        return functools.partial(_score, engine)

    def description(self) -> str:
        """Return everything but the clip that scores depend on, as text."""
        return json.dumps([self.manifest.model_dump(mode="json"), self.rewards, versions()], sort_keys=True)


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A clip to be scored, whose video may have to be copied first.

    Attributes:
        request: The clip; its video is a placeholder if there is an address.
        url: Address of the video, or `None` for a local one.
    """

    request: ScoreRequest
    url: str | None = None

    @property
    def name(self) -> str:
        """Name of the clip in messages and results."""
        return str(self.request.video) if self.url is None else self.url

    @contextlib.contextmanager
    def local(self) -> Iterator[ScoreRequest]:
        """Copy the video, and yield the request for the copy.

        Raises:
            VideoError: It cannot be copied.
        """
        if self.url is None or self.request.problem is not None:
            yield self.request
            return
        with fetched(self.url) as path:
            yield replace(self.request, video=path)


def score_videos(
    videos: Sequence[str | Path],
    *,
    prompt: str | None = None,
    prompts_file: Path | None = None,
    trajectory: Path | None = None,
    intrinsics: Path | None = None,
    manifest: ManifestLike | None = None,
    rewards: Sequence[str] | None = None,
    records: str | None = None,
    workers: WorkerOptions | None = None,
) -> Iterator[ScoredVideo]:
    """Score clips on a Ray cluster, and return the outcomes in the order of the clips.

    Args:
        videos: Files, folders, lists, and addresses of files or folders in a bucket (`s3://bucket/videos`).
        prompt: As for `worldr1 score`.
        prompts_file: As for `worldr1 score`.
        trajectory: As for `worldr1 score`.
        intrinsics: As for `worldr1 score`.
        manifest: Source of rewards and options; the default manifest if not given.
        rewards: Names, instead of all rewards of the manifest.
        records: Folder or address where the record of every scored clip is kept. Clips whose record an earlier run
            with the same settings has kept there are not scored again.
        workers: Workers.

    Raises:
        UserError: An argument cannot be used, or the rewards cannot work for any clip.
        WorldR1Error: The cluster cannot be used.
    """
    registry = installed().registry
    parsed = read_scoring_manifest(manifest, registry)
    choose_rewards(parsed.rewards if rewards is None else list(rewards), parsed.rewards, registry)
    spec = ScoreSpec(parsed, None if rewards is None else tuple(rewards))
    with tempfile.TemporaryDirectory(prefix="worldr1-") as folder:
        paths, mirrors = mirror_all(videos, Path(folder))
        requests = collect_requests(
            paths, prompt=prompt, prompts_file=prompts_file, trajectory=trajectory, intrinsics=intrinsics
        )
        jobs = [_job(request, mirrors) for request in requests]
        yield from _score_jobs(jobs, spec, records, workers or WorkerOptions())


def mirror_all(videos: Sequence[str | Path], folder: Path) -> tuple[list[Path], list[Mirror]]:
    """Mirror the remote ones among paths.

    Args:
        videos: Local paths and addresses.
        folder: Empty folder for the mirrors.

    Returns:
        Local paths for all, and the mirrors.

    Raises:
        VideoError: There is nothing at an address.
    """
    paths: list[Path] = []
    mirrors: list[Mirror] = []
    for index, video in enumerate(videos):
        if isinstance(video, str) and is_remote(video):
            (own := folder / str(index)).mkdir()
            mirrors.append(mirror(video, own))
            paths.append(mirrors[-1].path)
        else:
            paths.append(Path(video))
    return paths, mirrors


def url_of(path: Path, mirrors: Sequence[Mirror]) -> str | None:
    """Return the address that a path stands for, or `None` for one outside every mirror."""
    return next((url for own in mirrors if (url := own.url_of(path)) is not None), None)


def _job(request: ScoreRequest, mirrors: Sequence[Mirror]) -> RemoteRequest:
    return RemoteRequest(request, url_of(request.video, mirrors))


def _score_jobs(
    jobs: Sequence[RemoteRequest], spec: ScoreSpec, records: str | None, workers: WorkerOptions
) -> Iterator[ScoredVideo]:
    store = None if records is None else RecordStore(records)
    description = spec.description()
    marks = ["" if store is None else _fingerprint(job, description) for job in jobs]
    kept = {} if store is None else store.read(set(marks))
    done = {index: ScoredVideo(kept[mark]) for index, mark in enumerate(marks) if mark in kept}
    todo = [index for index in range(len(jobs)) if index not in done]
    position = 0
    with Progress("Scoring", len(jobs)) as progress:
        for _ in done:
            progress.advance()
        for index, outcome in _run(jobs, todo, spec, workers):
            if store is not None and outcome.line:
                store.keep(marks[index], outcome.line)
            done[index] = outcome
            progress.advance()
            while position in done:
                yield done.pop(position)
                position += 1
        while position in done:
            yield done.pop(position)
            position += 1


def _run(
    jobs: Sequence[RemoteRequest], todo: Sequence[int], spec: ScoreSpec, workers: WorkerOptions
) -> Iterator[tuple[int, ScoredVideo]]:
    """Score the clips with these indices, in any order."""
    if not todo:
        return
    with ray_cluster(workers.num_workers or 1) as resources:
        for result in run_tasks([jobs[index] for index in todo], spec.build, workers, resources):
            index = todo[result.index]
            yield index, result.value or ScoredVideo(error=f"{jobs[index].name}: {result.failure}.")


def _fingerprint(job: RemoteRequest, description: str) -> str:
    return VideoJob("", job.name, 0, 0, job.request).fingerprint(description)


def _score(engine: ScoringEngine, job: RemoteRequest) -> ScoredVideo:
    """Score one clip in a worker."""
    try:
        with job.local() as request:
            clip = _load(request, job)
    except UserError as error:
        return ScoredVideo(error=str(error))
    (result,) = engine.score([clip])
    return ScoredVideo(score_line(result))


def _load(request: ScoreRequest, job: RemoteRequest) -> Clip:
    try:
        return replace(load_request(request), name=job.name)
    except UserError as error:
        raise type(error)(with_address(str(error), request, job)) from error


def with_address(message: str, request: ScoreRequest, job: RemoteRequest) -> str:
    """Return a message with the address of a video in place of its copy."""
    for path in (request.video, job.request.video):
        message = message.replace(str(path), job.name)
    return message
