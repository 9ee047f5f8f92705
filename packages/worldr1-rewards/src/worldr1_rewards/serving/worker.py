"""The process that scores for a server, one per device: `python -m worldr1_rewards.serving.worker DESCRIPTOR`.

It holds the models. The server holds the connections, so that a worker that dies takes no connection with it.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents, build, compose_scoring, resolve_device
from worldr1_core.errors import PluginError, UserError, WorldR1Error, describe_exception
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.log import configure_logging, get_logger
from worldr1_core.manifest import Manifest, RewardSpec, load_manifest
from worldr1_core.placement import ScoredClip
from worldr1_core.plugins import installed
from worldr1_core.provenance import versions
from worldr1_core.registry import Registry
from worldr1_core.scoring import ScoringEngine
from worldr1_core.tracing import configure_tracing
from worldr1_rewards.serving.answers import encode_answer
from worldr1_rewards.serving.composition import describe_composition
from worldr1_rewards.serving.limits import Limits
from worldr1_rewards.serving.messages import ConnectionLost, Message, receive, send
from worldr1_rewards.serving.questions import decode_questions, encode_grades, parse_questions
from worldr1_rewards.serving.request_context import continued
from worldr1_rewards.serving.requests import decode_clips, parse_request
from worldr1_rewards.serving.served import choose_served, without_placements
from worldr1_rewards.serving.wire_errors import ErrorCode, RequestFailed

log = get_logger(__name__)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Outcome:
    payload: bytes = b""
    code: ErrorCode | None = None
    message: str = ""

    def document(self) -> dict[str, Any]:
        return {"length": len(self.payload), "code": self.code, "message": self.message}


class Worker:
    """Scores the requests of one server.

    Args:
        settings: Manifest, rewards, judge, device and limits, as the server sends them.

    Raises:
        UserError: The composition cannot be created.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        registry = installed().registry
        manifest = without_placements(load_manifest(settings["manifest"], registry), ask_judge=settings["ask_judge"])
        rewards = choose_served(manifest, settings["rewards"], registry, judge=settings["judge"])
        self._limits = Limits.model_validate(settings["limits"])
        self._components = _compose(manifest, rewards, registry, settings["device"])
        self._judge = self._components.judge
        if self._judge is None and settings["judge"] and manifest.judge is not None:
            device = resolve_device(settings["device"] or manifest.device)
            self._judge = build(manifest.judge, "judge", Judge, registry, device)
        self.composition = describe_composition(
            rewards, manifest.reconstructor, manifest.judge, registry, with_judge=settings["judge"]
        )

    def score(self, files: Sequence[int], rewards: Sequence[str] | None) -> list[_Outcome]:
        """Score requests together.

        Args:
            files: Descriptor of the body of each request.
            rewards: Rewards that all of them ask for; `None` for questions to the judge.

        Returns:
            One outcome per request.
        """
        if rewards is None:
            return self._together(files, self._decode_questions, self._grade, encode_grades)
        components = self._components.subset(rewards)
        return self._together(files, self._decode_clips, lambda clips: _score(components, clips), encode_answer)

    def _decode_clips(self, body: memoryview) -> list[Clip]:
        return decode_clips(body, parse_request(body, self._limits))

    def _decode_questions(self, body: memoryview) -> list[JudgeRequest]:
        return decode_questions(body, parse_questions(body, self._limits))

    def _grade(self, questions: Sequence[JudgeRequest]) -> list[JudgeResult | Exception]:
        assert self._judge is not None, "the server refuses questions without a judge"
        results = self._judge.grade(questions)
        if len(results) != len(questions):
            raise PluginError(
                f"Judge {type(self._judge).__name__} returned {len(results)} results for {len(questions)} questions. "
                "Report this to its author."
            )
        return results

    def _together(
        self,
        files: Sequence[int],
        decode: Callable[[memoryview], list[T]],
        work: Callable[[list[T]], list[R]],
        encode: Callable[[list[R]], bytes],
    ) -> list[_Outcome]:
        """Do the work of several requests at once; a request that cannot be read fails alone."""
        items: list[T] = []
        counts: list[int | _Outcome] = []
        for file in files:
            try:
                own = decode(memoryview(mmap.mmap(file, os.fstat(file).st_size, access=mmap.ACCESS_COPY)))
                counts.append(len(own))
                items += own
            except RequestFailed as error:
                counts.append(_Outcome(code=error.code, message=str(error)))
            except (MemoryError, OSError) as error:
                log.error("no memory for a request", reason=describe_exception(error))
                message = f"The worker has no memory for the clips: {describe_exception(error)}."
                counts.append(_Outcome(code=ErrorCode.FAILED, message=message))
        try:
            results = work(items) if items else []
        except UserError as error:
            return [_Outcome(code=ErrorCode.NOT_USABLE, message=str(error)) for _ in files]
        except Exception as error:  # noqa: BLE001 - the requests fail with it, and the worker goes on
            log.error("scoring failed", reason=describe_exception(error))
            return [_Outcome(code=ErrorCode.FAILED, message=describe_exception(error)) for _ in files]
        outcomes = []
        for count in counts:
            if isinstance(count, int):
                outcomes.append(_Outcome(encode(results[:count])))
                del results[:count]
            else:
                outcomes.append(count)
        return outcomes


def _compose(
    manifest: Manifest, rewards: Sequence[RewardSpec], registry: Registry, device: str | None
) -> ScoringComponents:
    """The rewards of a server, of which one that serves its judge may have none."""
    if not rewards:
        return ScoringComponents([], None, None)
    return compose_scoring(manifest, registry, only=rewards, device=device)


def _score(components: ScoringComponents, clips: list[Clip]) -> list[ScoredClip]:
    scored = []
    for result in ScoringEngine(components).score(clips, batch_size=len(clips)):
        timings = {name: seconds for name, seconds in result.timings.items() if name != "total"}
        scored.append(ScoredClip(result.scores, timings))
        del result  # its reconstruction would stay in memory while the next one is read
    return scored


def serve(channel: socket.socket) -> None:
    """Answer messages until the server closes the connection."""
    settings = receive(channel).document
    configure_logging(settings["log_level"], json=settings["log_json"])
    configure_tracing("worker")
    try:
        worker = Worker(settings)
    except WorldR1Error as error:
        send(channel, Message({"error": str(error), "user": isinstance(error, UserError)}))
        return
    send(channel, Message({"composition": worker.composition.model_dump(mode="json"), "versions": versions()}))
    while True:
        message = receive(channel)
        try:
            with continued("worker", message.document["contexts"]):
                start = time.monotonic()
                outcomes = worker.score(message.files, message.document["rewards"])
                log.info("scored", requests=len(outcomes), seconds=round(time.monotonic() - start, 3))
        finally:
            for file in message.files:
                os.close(file)
        payload = b"".join(outcome.payload for outcome in outcomes)
        send(channel, Message({"outcomes": [outcome.document() for outcome in outcomes]}, payload))


def _end_with_server(channel: socket.socket) -> None:
    """End this process when its server is gone, also while it scores."""
    hung_up = getattr(select, "POLLRDHUP", select.POLLHUP)

    def watch() -> None:
        poll = select.poll()
        poll.register(channel.fileno(), hung_up)
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, name="server", daemon=True).start()


def main() -> None:
    """Entry point; the argument is the descriptor of the connection to the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when its workers stop
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        _end_with_server(channel)
        try:
            serve(channel)
        except ConnectionLost:
            return


if __name__ == "__main__":
    main()
