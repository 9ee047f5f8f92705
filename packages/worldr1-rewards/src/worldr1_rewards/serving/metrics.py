"""Metrics of a server in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class ServerMetrics:
    """Counters of one server; they do not share a registry with other servers of the process."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter("worldr1_requests", "Requests by the code of their answer.", ["code"], registry=own)
        self.clips = Counter("worldr1_clips", "Clips scored.", registry=own)
        self.questions = Counter("worldr1_questions", "Questions that the judge was asked.", registry=own)
        self.bytes = Counter("worldr1_received_bytes", "Bytes of bodies received.", registry=own)
        self.repeated = Counter("worldr1_repeated_requests", "Requests answered without scoring again.", registry=own)
        self.restarts = Counter("worldr1_worker_losses", "Workers that died or were killed.", registry=own)
        self.queued = Gauge("worldr1_queued_requests", "Requests that wait for a worker.", registry=own)
        self.under_way = Gauge("worldr1_admitted_requests", "Requests received, queued or scored.", registry=own)
        self.workers = Gauge("worldr1_ready_workers", "Workers that can score.", registry=own)
        self.batch = Histogram(
            "worldr1_batch_clips",
            "Clips or questions taken together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=own,
        )
        self.seconds = Histogram(
            "worldr1_request_seconds",
            "Time from the admission of a request to its answer.",
            buckets=_SECONDS,
            registry=own,
        )
        self.worker_seconds = Histogram(
            "worldr1_batch_seconds", "Time that a worker took for a batch.", buckets=_SECONDS, registry=own
        )

    def text(self) -> bytes:
        """The metrics in the text format."""
        return generate_latest(self._registry)
