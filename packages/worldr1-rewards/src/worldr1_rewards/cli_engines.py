"""Options of commands that can run on Ray, and the checks of what goes with what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from worldr1_rewards.ray_engine.cluster import WorkerOptions

F = TypeVar("F", bound=Callable[..., Any])

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def engine_option(help_text: str) -> Callable[[F], F]:
    """Return the decorator that adds `--engine`.

    Args:
        help_text: What the engines do in this command.
    """
    return click.option("--engine", type=click.Choice(ENGINES), default=LOCAL, show_default=True, help=help_text)


def gpus_option(option: str = "--gpus-per-worker", name: str = "gpus_per_worker") -> Callable[[F], F]:
    """Return the decorator that adds the GPUs that a process on Ray reserves.

    Args:
        option: Name of the option.
        name: Parameter of the command.
    """
    return click.option(
        option,
        name,
        type=click.FloatRange(0, 64),
        help="Ray: GPUs of each, may be a fraction.  [default: 1 if the cluster has GPUs, else 0]",
    )


def worker_options(num_workers: int | None, gpus_per_worker: float | None) -> WorkerOptions:
    """Return the workers that options ask for.

    Raises:
        UserError: The number of GPUs is not possible.
    """
    from worldr1_rewards.ray_engine.cluster import WorkerOptions

    return WorkerOptions(num_workers, gpus_per_worker)


def refuse(context: click.Context, names: dict[str, str], reason: str) -> None:
    """Refuse options that were given on the command line.

    Args:
        context: Context of the command.
        names: Parameter -> option.
        reason: End of the message, after the option.

    Raises:
        click.UsageError: One of them was given.
    """
    for parameter, option in names.items():
        source = context.get_parameter_source(parameter)
        if source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT"):
            raise click.UsageError(f"{option} {reason}")


def refuse_addresses(paths: list[str | Path]) -> list[Path]:
    """Return local paths; refuse addresses, which only Ray reads.

    Raises:
        click.UsageError: One is an address such as `s3://bucket/videos`.
    """
    for path in paths:
        if isinstance(path, str):
            raise click.UsageError(f"{path!r} is no local path. Use --engine ray for videos in a bucket.")
    return [Path(path) for path in paths]
