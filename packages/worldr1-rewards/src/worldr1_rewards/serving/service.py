"""The service behind the HTTP routes: a queue, workers that are restarted when they die, and remembered answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldr1_core.errors import WorldR1Error
from worldr1_core.log import get_logger
from worldr1_rewards.serving.composition import Composition
from worldr1_rewards.serving.job_queue import JobQueue
from worldr1_rewards.serving.jobs import AnswerMemory, Job
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.metrics import ServerMetrics
from worldr1_rewards.serving.schema import ScoreRequest
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed
from worldr1_rewards.serving.worker_process import WorkerLost, WorkerProcess, describe_status

log = get_logger(__name__)

STUCK_SECONDS = 5.0
"""Time that a worker has after the deadline of its requests before it counts as stuck."""
_RESTART_PAUSES = (0.1, 1.0, 5.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Settings of a server.

    Attributes:
        manifest: Manifest file.
        rewards: Rewards to serve; `None` for all of the manifest, or for none with `judge`.
        judge: Serve the judge of the manifest.
        ask_judge: Rewards ask the judge where the manifest places it, instead of in the worker.
        devices: Device of each worker; `None` is the device of the manifest.
        limits: Largest request.
        max_requests: Requests that are admitted at once.
        max_queued_bytes: Sum of the sizes of their bodies.
        max_batch_clips: Clips of several requests that are scored together.
        start_seconds: Time that a worker has to load its models.
        log_level: Lowest level that workers log.
        log_json: Whether they log JSON.
    """

    manifest: Path
    rewards: Sequence[str] | None = None
    judge: bool = False
    ask_judge: bool = False
    devices: Sequence[str | None] = (None,)
    limits: Limits = field(default_factory=Limits)
    max_requests: int = 64
    max_queued_bytes: int = 4 * 2**30
    max_batch_clips: int = 8
    start_seconds: float = 1800.0
    log_level: str = "info"
    log_json: bool = False

    def for_worker(self, device: str | None) -> dict[str, Any]:
        """Settings of one worker."""
        return {
            "manifest": str(self.manifest.resolve()),
            "rewards": None if self.rewards is None else list(self.rewards),
            "judge": self.judge,
            "ask_judge": self.ask_judge,
            "device": device,
            "limits": self.limits.model_dump(),
            "log_level": self.log_level,
            "log_json": self.log_json,
        }


class ScoringService:
    """Scores requests on workers.

    Args:
        settings: Settings of the server.
        make_worker: Makes a worker of its settings.

    Attributes:
        metrics: Metrics.
        memory: Remembered answers.
        jobs: Requests under way by their id.
    """

    def __init__(
        self, settings: ServiceSettings, make_worker: Callable[[dict[str, Any]], WorkerProcess] = WorkerProcess
    ) -> None:
        self.settings = settings
        self.metrics = ServerMetrics()
        self.memory = AnswerMemory()
        self.jobs: dict[str, Job] = {}
        self.queue = JobQueue(
            settings.max_requests,
            settings.max_queued_bytes,
            settings.max_batch_clips,
            is_alone=self.memory.is_suspect,
            drop=self._drop,
        )
        self._workers = [make_worker(settings.for_worker(device)) for device in settings.devices]
        self._ready: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.metrics.queued.set_function(lambda: len(self.queue))
        self.metrics.under_way.set_function(lambda: self.queue.num_requests)
        self.metrics.workers.set_function(lambda: len(self._ready))
        self._threads = ThreadPoolExecutor(max_workers=len(self._workers), thread_name_prefix="worker")

    @property
    def is_ready(self) -> bool:
        """Whether a worker can score."""
        return bool(self._ready)

    @property
    def composition(self) -> Composition | None:
        """What is served; `None` until a worker has started."""
        return next((worker.composition for worker in self._workers if worker.composition is not None), None)

    @property
    def versions(self) -> dict[str, str]:
        """Versions in the environment of the workers."""
        return next((worker.versions for worker in self._workers if worker.versions), {})

    async def start(self) -> None:
        """Start the workers and wait until all of them are ready; call `stop` also if this fails.

        Raises:
            UserError: The composition cannot be created.
            WorldR1Error: A worker died or was not ready in time.
        """
        try:
            await asyncio.gather(*(self._start(index) for index in range(len(self._workers))))
        except WorkerLost as error:
            raise WorldR1Error(f"A worker could not be started: {error}. Its log says why.") from error
        self._tasks = [asyncio.create_task(self._work(index)) for index in range(len(self._workers))]

    async def stop(self) -> None:
        """End the workers; requests that are still under way fail."""
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            worker.kill()
        self._ready.clear()
        for job in list(self.jobs.values()):
            self._finish(job, RequestFailed(ErrorCode.UNAVAILABLE, "The server has been stopped."))
        self._threads.shutdown(wait=False)

    def submit(self, job: Job) -> None:
        """Queue an admitted request; its caller must `wait` for it."""
        job.num_waiting = 1
        self.jobs[job.id] = job
        self.queue.put(job)

    async def wait(self, job: Job, seconds: float) -> bytes:
        """Wait for the answer of a request; one that nobody waits for any more is taken out of the queue.

        `num_waiting` of the job counts the callers of this method.

        Raises:
            RequestFailed: There is no answer, or not in time.
        """
        job.deadline = max(job.deadline, time.monotonic() + seconds)
        try:
            async with asyncio.timeout(seconds):
                answer = await asyncio.shield(job.answer)
        except TimeoutError as error:
            raise RequestFailed(ErrorCode.DEADLINE, f"There was no answer within {seconds:g} s.") from error
        finally:
            job.num_waiting -= 1
            if job.num_waiting == 0 and self.queue.remove(job):
                self._finish(job, RequestFailed(ErrorCode.DEADLINE, "Nobody waits for the answer any more."))
        if isinstance(answer, RequestFailed):
            raise answer
        return answer

    def _drop(self, job: Job) -> None:
        self._finish(job, RequestFailed(ErrorCode.DEADLINE, "The deadline passed before a worker was free."))

    def _finish(self, job: Job, answer: bytes | RequestFailed) -> None:
        if self.jobs.get(job.id) is job:
            del self.jobs[job.id]
        if isinstance(answer, bytes):
            self.memory.keep(job, answer)
            is_score = isinstance(job.request, ScoreRequest)
            (self.metrics.clips if is_score else self.metrics.questions).inc(job.request.size)
        self.metrics.seconds.observe(time.monotonic() - job.created)
        job.finish(answer)

    async def _start(self, index: int) -> None:
        worker = self._workers[index]
        await self._in_thread(worker.start, self.settings.start_seconds)
        self._ready.add(index)
        log.info("worker ready", worker=index, pid=worker.pid, device=worker.settings["device"])

    async def _work(self, index: int) -> None:
        """Score batch after batch on one worker, and restart it when it is lost."""
        while True:
            batch = await self._next_batch(index)
            try:
                answers = await self._score(index, batch)
            except WorkerLost as error:
                self._lose(index, batch, error)
                await self._restart(index)
                continue
            for job, answer in zip(batch, answers, strict=True):
                self._finish(job, answer)

    async def _next_batch(self, index: int) -> list[Job]:
        """Wait for requests; a worker that ends meanwhile is restarted, so that it costs no request."""
        while True:
            waiting = asyncio.create_task(self.queue.next_batch())
            ended = asyncio.create_task(self._ended(index))
            try:
                await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    return waiting.result()
            finally:
                for task in (waiting, ended):
                    task.cancel()
            status = self._workers[index].kill()
            self._lose(index, [], WorkerLost(f"the worker ended with {describe_status(status)}"))
            await self._restart(index)
            if waiting.done() and not waiting.cancelled():
                return waiting.result()

    async def _ended(self, index: int) -> None:
        """Return when an idle worker has ended; it sends nothing, so its connection is readable only then."""
        descriptor, ended = self._workers[index].descriptor, asyncio.Event()
        loop = asyncio.get_running_loop()
        if descriptor is None:
            await ended.wait()
            return
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)

    async def _score(self, index: int, batch: list[Job]) -> Sequence[bytes | RequestFailed]:
        start = time.monotonic()
        self.metrics.batch.observe(sum(job.request.size for job in batch))
        answers = await self._in_thread(
            self._workers[index].score,
            [job.body.descriptor for job in batch],
            batch[0].request.rewards if isinstance(batch[0].request, ScoreRequest) else None,
            max(job.deadline for job in batch) + STUCK_SECONDS,
            [dict(job.context) for job in batch],
        )
        seconds = time.monotonic() - start
        self.metrics.worker_seconds.observe(seconds)
        self.queue.note_seconds(seconds / len(batch) / max(1, len(self._ready)))
        return answers

    def _lose(self, index: int, batch: list[Job], error: WorkerLost) -> None:
        self._ready.discard(index)
        self.metrics.restarts.inc()
        log.error("worker lost", worker=index, reason=str(error), requests=[job.id for job in batch])
        for job in batch:
            self.memory.note_loss(job)
            self._finish(job, RequestFailed(ErrorCode.WORKER_LOST, f"{error} while it scored this request."))

    async def _restart(self, index: int) -> None:
        for attempt in range(10**9):
            await asyncio.sleep(_RESTART_PAUSES[min(attempt, len(_RESTART_PAUSES) - 1)])
            try:
                await self._start(index)
                return
            except (WorkerLost, WorldR1Error) as error:
                log.error("worker could not be restarted", worker=index, attempt=attempt, reason=str(error))

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
