"""The bounded queue of a server: requests are admitted before their bodies are read, and taken in batches."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections import deque
from collections.abc import Callable

from worldr1_rewards.serving.jobs import Job
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

_MAX_RETRY_AFTER = 60.0
_REMEMBERED_BATCHES = 9


class JobQueue:
    """Requests that wait for a worker.

    Args:
        max_requests: Requests that are admitted at once, those being received and scored included.
        max_bytes: Sum of the sizes of their bodies.
        max_batch_clips: Clips, or questions, that are scored together, unless one request has more.
        is_alone: Whether a request must be scored alone.
        drop: Called with a request whose deadline passed while it waited.
    """

    def __init__(
        self,
        max_requests: int,
        max_bytes: int,
        max_batch_clips: int,
        *,
        is_alone: Callable[[Job], bool],
        drop: Callable[[Job], None],
    ) -> None:
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._max_batch_clips, self._is_alone, self._drop = max_batch_clips, is_alone, drop
        self._waiting: deque[Job] = deque()
        self._changed = asyncio.Event()
        self.num_requests = 0
        self.num_bytes = 0
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED_BATCHES)

    @property
    def seconds_per_request(self) -> float:
        """Time after which the workers have done another request: the median of late; 0 until there is one."""
        return statistics.median(self._seconds) if self._seconds else 0.0

    def __len__(self) -> int:
        """Requests that wait for a worker."""
        return len(self._waiting)

    def admit(self, num_bytes: int) -> None:
        """Reserve room for a request; every call that returns needs one of `release`.

        Raises:
            RequestFailed: The queue is full.
        """
        if self.num_requests >= self._max_requests or (
            self.num_requests and self.num_bytes + num_bytes > self._max_bytes
        ):
            half = self.seconds_per_request * self.num_requests / 2  # the workers do not run out of requests meanwhile
            wait = min(_MAX_RETRY_AFTER, max(1.0, half))
            raise RequestFailed(
                ErrorCode.BUSY,
                f"The server has {self.num_requests} requests of {self.num_bytes} bytes under way and takes no more.",
                retry_after=math.ceil(wait),
            )
        self.num_requests += 1
        self.num_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        """Free the room of a request."""
        self.num_requests -= 1
        self.num_bytes -= num_bytes

    def put(self, job: Job) -> None:
        """Queue an admitted request."""
        self._waiting.append(job)
        self._changed.set()

    def note_seconds(self, seconds: float) -> None:
        """Note the time that a batch took per request and worker. A slow one, such as the first, counts little."""
        self._seconds.append(seconds)

    async def next_batch(self) -> list[Job]:
        """Wait for requests, and take those that can be scored together: at least one, all of one group."""
        while True:
            if batch := self._take():
                return batch
            self._changed.clear()
            await self._changed.wait()

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        num_clips = 0
        while self._waiting:
            job = self._waiting[0]
            if not job.is_wanted:
                self._waiting.popleft()
                self._drop(job)
                continue
            count = job.request.size
            alone = self._is_alone(job)
            if batch and (
                alone
                or num_clips + count > self._max_batch_clips
                or job.request.group != batch[0].request.group
                or self._is_alone(batch[0])
            ):
                break
            batch.append(self._waiting.popleft())
            num_clips += count
            if len(batch) == 32:  # the bodies of a batch travel as open files, of which a message holds 64
                break
        return batch

    def remove(self, job: Job) -> bool:
        """Take a request out of the queue; return whether it was still there."""
        if job not in self._waiting:
            return False
        self._waiting.remove(job)
        return True
