"""`report.html` of a run: learning curves, evaluations, videos before and after, settings, environment and cost.

The page is made of the files in the run's folder alone, so that `worldr1 report` draws it at any time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from worldr1_core.errors import UserError
from worldr1_core.files import atomic_write_text
from worldr1_core.frame_grid import pick_frames
from worldr1_core.log import get_logger
from worldr1_core.pages.page import html_page
from worldr1_core.pages.player import Stream, player
from worldr1_core.pages.templating import Templates
from worldr1_core.video_io import read_video
from worldr1_train.contact_sheet import read_comparisons
from worldr1_train.curves import Curve, read_curves, reward_curves
from worldr1_train.evaluation import metric_name
from worldr1_train.run_cost import Cost, run_cost
from worldr1_train.run_curves import curve_panels
from worldr1_train.run_files import RunFiles, read_run, write_result
from worldr1_train.run_pictures import VIDEOS
from worldr1_train.run_table import evaluation_table

REPORT = "report.html"
NUM_SAMPLES = 6
"""Videos of the training that the page shows, evenly spaced over its steps."""
_PAIR_BYTES, _SAMPLE_BYTES = 160 * 1024, 48 * 1024

log = get_logger(__name__)
_templates = Templates("worldr1_train")


def finish_report(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result of a finished run and its page; what cannot be written is logged as a warning.

    Args:
        folder: Folder of the run.
        result: Result of `worldr1 train`.
    """
    try:
        write_result(folder, result)
        write_report(folder)
    except UserError as error:
        log.warning("report not written", path=str(folder / REPORT), reason=str(error))


def write_report(folder: Path, path: Path | None = None) -> Path:
    """Write the page of a run, which may still be under way.

    Args:
        folder: Folder of the run.
        path: HTML file; `report.html` in the folder if `None`.

    Returns:
        The file written.

    Raises:
        UserError: The folder holds no run, a file of it cannot be read, or the page cannot be written.
    """
    path = folder / REPORT if path is None else path
    atomic_write_text(path, _page(read_run(folder)))
    return path


def _page(run: RunFiles) -> str:
    cost, curves = run_cost(run), _curves(run)
    return html_page(
        f"Training run {run.folder.absolute().name}",
        summary=_summary(run, cost, curves),
        body=_templates.render(
            "run_body.html.j2",
            panels=curve_panels(curves),
            comparisons=_comparisons(run.folder / VIDEOS),
            samples=_samples(run.folder / "samples"),
            cost=cost,
            seconds=None if run.result is None else float(run.result["seconds"]),
            settings=_settings(run),
            environment=run.environment,
            is_finished=run.result is not None,
        ),
        versions=run.versions,
        manifest=yaml.safe_dump(dict(run.record), sort_keys=False, allow_unicode=True),
        body_name="run",
    )


def _summary(run: RunFiles, cost: Cost, curves: Mapping[str, Curve]) -> Markup:
    alarms: Sequence[Mapping[str, Any]] = [] if run.result is None else run.result["alarms"]
    trained = _trained(run)
    table = evaluation_table(run.evaluations, trained, [alarm["metric"] for alarm in alarms])
    return _templates.render(
        "run_summary.html.j2",
        is_finished=run.result is not None,
        step=run.step,
        total_steps=run.total_steps,
        alarms=[alarm["message"] for alarm in alarms],
        table=table,
        cost=cost,
        rewards={name.replace("_", " "): _course(values) for name, (_, values) in reward_curves(curves).items()},
    )


def _trained(run: RunFiles) -> list[str]:
    """Names of the metrics that the run trains on."""
    if run.result is not None:
        return list(run.result["trained"])
    weights = {reward["name"]: reward["weight"] for reward in run.record.get("rewards", [])}
    return [metric_name(name) for name, weight in weights.items() if weight > 0]


def _course(values: Sequence[float]) -> str:
    """Mean of the first and the last tenth of some values, as text."""
    count = math.ceil(len(values) / 10)
    first, last = sum(values[:count]) / count, sum(values[-count:]) / count
    return f"{first:.3g} → {last:.3g}"


def _curves(run: RunFiles) -> Mapping[str, Curve]:
    return read_curves(run.folder) if run.values("loss") else {}


def _comparisons(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []
    return [
        {
            "prompt": one.prompt,
            "player": player(
                [Stream(name, frames) for name, frames in one.rows.items()],
                fps=one.fps,
                label=f"Test video {index}",
                max_bytes=_PAIR_BYTES,
            ),
        }
        for index, one in enumerate(read_comparisons(folder), 1)
    ]


def _samples(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in folder.glob("*.mp4") if path.with_suffix(".json").exists())
    return [_sample(paths[index]) for index in pick_frames(len(paths), NUM_SAMPLES)]


def _sample(path: Path) -> dict[str, Any]:
    video = read_video(path)
    step = path.stem.partition("-")[0].removeprefix("step").lstrip("0") or "0"
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The record beside {str(path)!r} cannot be read: {error}. Remove both files.") from error
    scores = {name: value for name, value in record.items() if name != "prompt" and value is not None}
    title = f"Step {step}"
    return {
        "title": title,
        "prompt": str(record.get("prompt", "")),
        "scores": scores,
        "player": player([Stream(title, video.frames)], fps=video.fps, label=title, max_bytes=_SAMPLE_BYTES),
    }


def _settings(run: RunFiles) -> dict[str, Any]:
    """The settings a reader looks for first; the manifest at the end of the page has all."""
    record, section = run.record, run.section
    objective = section.get("objective") or {}
    objectives = objective if isinstance(objective, list) else [objective]
    adapter = section.get("adapter")
    return {
        "backbone": record["backbone"]["name"],
        "sampler": record["sampler"]["name"],
        "noise": record["noise"]["name"] if "noise" in record else "plain Gaussian",
        "objective": ", ".join(one.get("name", "flow-grpo") for one in objectives),
        "rewards": ", ".join(f"{reward['weight']:g} × {reward['name']}" for reward in record.get("rewards", [])),
        "trained": "all weights" if adapter is None else f"LoRA of rank {adapter['rank']}",
        "learning rate": f"{section['optimiser']['learning_rate']:g}",
        "group size": section["group_size"],
        "prompts per rollout batch": section["prompts_per_rollout_batch"],
        "prompts": ", ".join(f"{count} {split}" for split, count in run.num_prompts.items()),
        "seed": record.get("seed", "none"),
    }
