"""Results of an evaluation in wandb or trackio: means as figures, and a table of the videos that can be played."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldr1_core.errors import MissingExtraError, UserError, suggest
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.result import EvalResult

TRACKERS = ("wandb", "trackio")
TABLE = "videos"
"""Name of the table."""
PLAYABLE = (".mp4", ".gif", ".webm")
"""Suffixes of videos that the trackers can show; others are named only."""


def log_evaluation(
    result: EvalResult,
    tracker: str,
    videos: Mapping[str, str | Path] | None = None,
    *,
    project: str = "worldr1-eval",
    name: str | None = None,
) -> None:
    """Send an evaluation to a tracker as one finished run.

    The run has the figures `<set>/<column>` and a table with one row per video: set, file, prompt, seed, every column,
    why it failed, and the video itself. Where the tracker sends it is chosen by its own settings, such as
    `WANDB_MODE=offline`.

    Args:
        result: The evaluation.
        tracker: `"wandb"` or `"trackio"`.
        videos: Set -> folder of its videos, to show them.
        project: Project of the run.
        name: Name of the run; by default the tracker chooses one.

    Raises:
        UserError: The tracker is unknown.
        MissingExtraError: It is not installed.

    Example:
        ```python
        sets = {"base": "videos/base", "ours": "videos/ours"}
        log_evaluation(evaluate(sets, "prompts.txt"), "trackio", sets)
        ```
    """
    if tracker not in TRACKERS:
        raise UserError(f"Unknown tracker {tracker!r}. Allowed: {list(TRACKERS)}.{suggest(tracker, TRACKERS)}")
    try:
        module: Any = importlib.import_module(tracker)
    except ImportError as error:
        raise MissingExtraError(f"{tracker} is not installed. Install it with: pip install {tracker}") from error
    columns = [column.name for column in result.columns]
    heads = ["set", "file", "prompt", "seed", *columns, "failures", "video"]
    rows = [_row(record, columns, _video(module, record, videos or {})) for record in result.videos]
    figures = {
        f"{method}/{column}": mean
        for method, means in result.means().items()
        for column, mean in means.items()
        if mean is not None
    }
    settings = {"metrics": list(result.metrics), "baseline": result.baseline, **result.settings}
    module.init(project=project, name=name, config=settings)
    try:
        module.log({**figures, TABLE: module.Table(columns=heads, data=rows)})
    finally:
        module.finish()


def _row(record: VideoRecord, columns: list[str], video: Any) -> list[Any]:
    failures = [record.error] if record.error else [f"{column}: {why}" for column, why in record.failures.items()]
    values = [record.values.get(column) for column in columns]
    return [record.method, record.video, record.prompt, record.seed, *values, "; ".join(failures), video]


def _video(module: Any, record: VideoRecord, folders: Mapping[str, str | Path]) -> Any:
    """The video for the tracker, or `None` if it cannot be shown."""
    folder = folders.get(record.method)
    path = None if folder is None else Path(folder) / record.video
    if path is None or path.suffix.lower() not in PLAYABLE or not path.is_file():
        return None
    return module.Video(str(path), caption=record.prompt, format=path.suffix[1:].lower())
