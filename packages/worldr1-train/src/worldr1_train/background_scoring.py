"""Scoring of chunks of rollouts in the background, while further chunks are sampled with the same policy."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from worldr1_core.clip import Clip
from worldr1_core.scoring import ClipScores, ScoringEngine

if TYPE_CHECKING:
    from worldr1_train.rollouts import SampleScore
    from worldr1_train.stages import ClipScorer

_WAIT_SECONDS = 1.0


class BackgroundScoring:
    """Scores chunks while others are sampled.

    Rewards of this process score one chunk after the other, in order, in one thread. Rewards in a worker or at an
    endpoint receive a chunk as soon as it is submitted, so that several chunks can be scored at once.

    Args:
        scorer: Scores the clips.
        convert: Extracts what is kept of the scores of a clip, so that the clip and its frames can be freed.
        while_waiting: Called about once a second while scores are missing; may raise an error to give up.

    Attributes:
        seconds: Time during which at least one chunk was being scored.
        waited: Time that the caller has waited for scores.
    """

    def __init__(
        self,
        scorer: ClipScorer,
        convert: Callable[[ClipScores], SampleScore],
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._scorer, self._convert, self._while_waiting = scorer, convert, while_waiting
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")
        self._unfinished: dict[int, _Chunk] = {}
        self._scores: dict[int, list[SampleScore]] = {}
        self._last_end = 0.0
        self.seconds = self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def submit(self, clips: Sequence[Clip]) -> None:
        """Begin to score a chunk."""
        number = len(self._unfinished) + len(self._scores)
        self._unfinished[number] = _Chunk(self._scorer, clips, self._thread)

    def wait(self, num_unfinished: int) -> None:
        """Wait until at most so many chunks have no scores.

        Raises:
            UserError: The rewards cannot work for any clip.
        """
        start = time.perf_counter()
        self._collect()
        while len(self._unfinished) > num_unfinished:
            unfinished = [chunk.done for chunk in self._unfinished.values()]
            if not wait(unfinished, timeout=_WAIT_SECONDS, return_when=FIRST_COMPLETED).done:
                self._while_waiting()
            self._collect()
        self.waited += time.perf_counter() - start

    def results(self) -> list[SampleScore]:
        """Wait for all chunks, and return the scores of their clips in the order in which they were submitted.

        Raises:
            UserError: The rewards cannot work for any clip.
        """
        self.wait(0)
        return [score for _, scores in sorted(self._scores.items()) for score in scores]

    def _collect(self) -> None:
        done = {number: chunk for number, chunk in self._unfinished.items() if chunk.done.done()}
        for number, chunk in sorted(done.items(), key=lambda item: item[1].end):
            self.seconds += max(0.0, chunk.end - max(chunk.begin, self._last_end))
            self._last_end = max(chunk.end, self._last_end)
            del self._unfinished[number]
            self._scores[number] = [self._convert(result) for result in chunk.results()]


class _Chunk:
    """A chunk that is being scored.

    Args:
        scorer: Scores the clips.
        clips: The clips.
        thread: Calls the rewards of this process.

    Attributes:
        done: Done when nobody has to wait for `results`, which may raise an error.
        begin: Time at which the chunk was submitted.
        end: Time at which it was done.
    """

    def __init__(self, scorer: ClipScorer, clips: Sequence[Clip], thread: ThreadPoolExecutor) -> None:
        self.begin = self.end = time.perf_counter()
        self.done: Future[None] = Future()
        self._lock = threading.Lock()
        parts: list[Future[Any]]
        context = contextvars.copy_context()  # ids of log lines, and the span
        self._under_way = scorer.begin(clips) if isinstance(scorer, ScoringEngine) else None
        if self._under_way is None:
            parts = [thread.submit(context.run, lambda: list(scorer.score(clips, batch_size=len(clips))))]
        else:
            parts = [thread.submit(context.run, self._under_way.score_here), *self._under_way.elsewhere]
        self._here, self._num_left = parts[0], len(parts)
        for part in parts:
            part.add_done_callback(self._note_done)

    def results(self) -> list[ClipScores]:
        """Scores of the clips, once the chunk is done.

        Raises:
            UserError: The rewards cannot work for any clip.
        """
        scored: list[ClipScores] = self._here.result()
        return scored if self._under_way is None else self._under_way.results()

    def _note_done(self, part: Future[Any]) -> None:
        with self._lock:
            self._num_left -= 1
            if self._num_left == 0:
                self.end = time.perf_counter()
                self.done.set_result(None)
