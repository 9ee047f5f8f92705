"""Many independent tasks on Ray Data: each has a result or a reason, whatever happens to the others.

A worker is an actor that sets itself up once and works with one torch thread, so that results do not depend on the
number of workers. A task whose worker dies is tried again alone; if the worker dies again, the task has no result.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from worldr1_core.errors import UserError, describe_exception
from worldr1_core.log import configure_logging, get_logger, is_json
from worldr1_rewards.ray_engine.cluster import WorkerOptions, require_ray

log = get_logger(__name__)

DIED = "the process of this video ended unexpectedly, probably for lack of memory"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[R]):
    """Outcome of one task.

    Attributes:
        index: Position of the task.
        value: Its result, or `None`.
        failure: Why there is none.
    """

    index: int
    value: R | None
    failure: str = ""


def run_tasks(
    tasks: Sequence[T],
    make_function: Callable[[], Callable[[T], R]],
    options: WorkerOptions,
    resources: dict[str, float],
) -> Iterator[TaskResult[R]]:
    """Run tasks on the workers of a cluster, and return each result as soon as it is there.

    Args:
        tasks: The tasks; they and their results are pickled, and only Ray's own processes read them.
        make_function: Called once in every worker; returns the function of a task.
        options: Workers.
        resources: `CPU` and `GPU` of the cluster.

    Raises:
        UserError: A worker cannot be set up, or a task raised it: no task can work.
    """
    num_workers, gpus = options.resolve(resources, len(tasks))
    left = dict(enumerate(tasks))
    for result in _run(left, make_function, num_workers, gpus):
        del left[result.index]
        yield result
    for index, task in list(left.items()):
        log.warning("a worker died and its task is tried again", task=index)
        found = list(_run({index: task}, make_function, 1, gpus))
        yield from found or [TaskResult(index, None, DIED)]


def _run(
    tasks: dict[int, T], make_function: Callable[[], Callable[[T], R]], num_workers: int, gpus: float
) -> Iterator[TaskResult[R]]:
    """Run tasks; those whose worker died are left out."""
    if not tasks:
        return
    ray = require_ray()
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current().copy()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    rows = [{"index": index, "task": pickle.dumps(task)} for index, task in tasks.items()]
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with DataContext.current(context):
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(pickle.dumps(make_function), is_json()),
            compute=ActorPoolStrategy(size=num_workers, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=gpus,
            ray_remote_args_fn=_remote_args,
        )
        for row in data.iter_rows():
            if row["refusal"]:
                raise UserError(row["refusal"])
            yield TaskResult(row["index"], pickle.loads(row["result"]), row["failure"])


def _remote_args() -> dict[str, int]:
    """Options of an actor: by default Ray Data would repeat a task that kills its worker without end."""
    return {"max_task_retries": 0}


class _Worker:
    """Actor of a pool."""

    def __init__(self, make_function: bytes, log_json: bool) -> None:
        import torch

        torch.set_num_threads(1)
        configure_logging("warning", json=log_json)
        self._refusal, self._function = "", None
        try:
            self._function = pickle.loads(make_function)()
        except UserError as error:
            self._refusal = str(error)  # an exception here would make Ray try again

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        refusal, failure, result = self._refusal, "", None
        if self._function is not None:
            try:
                result = self._function(pickle.loads(row["task"]))
            except UserError as error:
                refusal = str(error)
            except Exception as error:  # noqa: BLE001 - this task fails with it, and the worker goes on
                failure = describe_exception(error)
        return {"index": row["index"], "result": pickle.dumps(result), "failure": failure, "refusal": refusal}
