"""Connection to a Ray cluster: that of `RAY_ADDRESS`, or one on this machine that ends with the command."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worldr1_core.errors import UserError, WorldR1Error, require
from worldr1_core.log import get_logger

log = get_logger(__name__)

EXTRA = "worldr1-rewards[ray]"
ADDRESS = "RAY_ADDRESS"
"""Environment variable that names a cluster, as for every program of Ray."""
_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports usage to its developers otherwise
    # Under `uv run`, Ray would copy the working directory to every worker and build its environment again.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
_STORE_BYTES = 256 * 2**20
"""Shared memory of a cluster on this machine; only paths and records pass through it."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Workers that score.

    Attributes:
        num_workers: Processes; `None` for one per GPU, or one per core where there is no GPU.
        gpus_per_worker: GPUs that each reserves, may be a fraction; `None` for 1 if the cluster has GPUs, else 0.
    """

    num_workers: int | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise UserError(f"The number of workers must be at least 1, received {self.num_workers!r}.")
        gpus = self.gpus_per_worker
        if gpus is not None and not (gpus >= 0 and (gpus <= 1 or float(gpus).is_integer())):
            raise UserError(f"The GPUs of a worker must be a fraction of one, 0 or a whole number, received {gpus!r}.")

    def resolve(self, resources: dict[str, float], num_tasks: int) -> tuple[int, float]:
        """Return the number of workers and the GPUs of each.

        Args:
            resources: `CPU` and `GPU` of the cluster.
            num_tasks: Tasks there are; further workers would have none.

        Raises:
            UserError: The cluster has fewer GPUs than one worker needs.
        """
        cores, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        each = self.gpus_per_worker if self.gpus_per_worker is not None else float(gpus > 0)
        if each > gpus:
            raise UserError(f"A worker needs {each:g} GPUs, and the cluster has {gpus:g}. Lower --gpus-per-worker.")
        available = math.floor(gpus / each) if each else math.floor(cores)
        wanted = self.num_workers if self.num_workers is not None else max(1, available)
        return max(1, min(wanted, num_tasks)), each


def require_ray() -> Any:
    """Import Ray.

    Raises:
        MissingExtraError: The extra `ray` is not installed.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)  # Ray reads them when it is imported
    require("fsspec", extra=EXTRA)
    return require("ray", extra=EXTRA)


@contextlib.contextmanager
def ray_cluster(min_cpus: int = 1) -> Iterator[dict[str, float]]:
    """Connect to a cluster, and yield its resources.

    A connection that the program has already is used and left open. A cluster that is started here has at least
    `min_cpus` logical CPUs, so that as many workers can be placed.

    Raises:
        MissingExtraError: The extra `ray` is not installed.
        WorldR1Error: The cluster does not answer.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield dict(ray.cluster_resources())
        return
    address = os.environ.get(ADDRESS)
    if address:
        _connect(ray, f"at {address!r} ({ADDRESS})", address=address)
    else:
        cpus = max(min_cpus, os.cpu_count() or 1)
        _connect(
            ray,
            "on this machine",
            address="local",
            num_cpus=cpus,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
        )
    resources = dict(ray.cluster_resources())
    log.info("connected to Ray", nodes=len(ray.nodes()), cpus=resources.get("CPU", 0), gpus=resources.get("GPU", 0))
    try:
        yield resources
    finally:
        ray.shutdown()


def _connect(ray: Any, place: str, **options: Any) -> None:
    try:
        ray.init(**options, logging_level="warning")
    except Exception as error:
        raise WorldR1Error(f"The Ray cluster {place} cannot be used: {error}") from error
