"""`evaluate`: the Python interface of `worldr1 eval` for videos."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from worldr1_core.clip import Clip
from worldr1_core.compose import resolve_device
from worldr1_core.errors import UserError, shorten, suggest
from worldr1_core.files import check_writable_folder
from worldr1_core.manifest import Manifest
from worldr1_core.manifest_forms import ManifestLike
from worldr1_core.plugins import installed
from worldr1_core.progress import Progress
from worldr1_core.provenance import versions
from worldr1_core.video_io import find_videos
from worldr1_rewards.evaluation.jobs import VideoJob, video_request
from worldr1_rewards.evaluation.matching import match_videos
from worldr1_rewards.evaluation.metric_sets import choose_metrics
from worldr1_rewards.evaluation.prompts import EvaluationPrompt, PromptsLike, read_evaluation_prompts
from worldr1_rewards.evaluation.records import RECORDS, RecordFile, VideoRecord
from worldr1_rewards.evaluation.result import EvalResult
from worldr1_rewards.evaluation.runner import MeasurerSpec, Work, measure_videos
from worldr1_rewards.evaluation.sections import FOLDER as PICTURES
from worldr1_rewards.evaluation.sections import NUM_SHOWN, Sections, choose_shown
from worldr1_rewards.scoring import read_scoring_manifest
from worldr1_rewards.video_inputs import VideoLike, collect_clips

VideosLike = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str] | Sequence[VideoLike]]
"""A folder of videos, or name -> folder or list of videos."""


def evaluate(
    videos: VideosLike,
    prompts: PromptsLike | None = None,
    *,
    metrics: str | Sequence[str] | None = None,
    manifest: ManifestLike | None = None,
    baseline: str | None = None,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    num_workers: int = 1,
    num_shown: int = NUM_SHOWN,
    reconstructor: str | None = None,
    device: str | None = None,
    measure: Callable[[Sequence[Work], MeasurerSpec], Iterator[VideoRecord]] | None = None,
) -> EvalResult:
    """Measure sets of videos, such as those of several models for the same prompts, and compare them.

    Args:
        videos: A folder, or several as name -> folder. Videos meet the prompts by name (`<prompt>-<n>.mp4`) or, sorted,
            by position. In place of a folder, a list of videos (paths, tensors `(T, 3, H, W)` in [0, 1], `Video` or
            `Clip` objects) has one video per prompt, in order.
        prompts: Prompt file or list. Left out, a video takes the prompt from the record or text file beside it, and
            videos of several sets are compared for equal names.
        metrics: Names of rewards, or of the sets `"default"`, `"3d"`, `"camera"`, `"rewards"` and `"vbench"`; by
            default the rewards of the manifest, or the set `default`, which needs no weights.
        manifest: Options of the metrics, reconstructor, judge and device.
        baseline: Name of the set that the others are compared with; by default the first of several.
        out: Folder for `results.json`, tables, and the records by which an interrupted evaluation is resumed.
        limit: Measure the videos of the first prompts only.
        num_workers: Processes. The results do not depend on it. More than 1 needs videos in files and, in a script, the
            guard `if __name__ == "__main__":`.
        num_shown: Number of prompts, evenly spaced, whose videos the page shows with pictures, the first of every set.
            Pictures need `out`.
        reconstructor: Name, instead of the manifest's.
        device: Torch device, instead of the manifest's.
        measure: Measures the videos in any order, instead of processes of this machine.

    Returns:
        Records, statistics and tables. A video that cannot be read is a failure in it, and fails nothing else.

    Raises:
        UserError: Videos and prompts do not match, or an argument cannot be used.
        WeightsError: The weights of a metric are missing.

    Example:
        ```python
        result = evaluate({"base": "videos/base", "ours": "videos/ours"}, "prompts.txt", out="evaluation")
        print(result.to_markdown())
        ```
    """
    registry = installed().registry
    chosen_manifest = read_scoring_manifest(manifest, registry)
    names = choose_metrics(
        [metrics] if isinstance(metrics, str) else metrics, None if manifest is None else chosen_manifest, registry
    )
    spec = MeasurerSpec(chosen_manifest, tuple(names), reconstructor, device)
    if isinstance(videos, str | os.PathLike):
        videos = {Path(videos).resolve().name: videos}
    jobs = _jobs(videos, prompts, limit)
    baseline = _check_baseline(baseline, list(videos))
    _check_workers(num_workers, jobs, names)
    if num_shown < 0:
        raise UserError(f"num_shown must be at least 0, received {num_shown!r}.")
    folder = None if out is None else Path(out)
    if folder is not None:
        check_writable_folder(folder)
    measurer = spec.build(registry)
    settings = _settings(spec)
    work = _work(jobs, settings)
    measurer.sections = sections = None if folder is None else _prepare_sections(work, folder, num_shown)
    measure = partial(measure_videos, num_workers=num_workers, measurer=measurer) if measure is None else measure
    records = _measure(work, replace(spec, sections=sections), folder, measure)
    columns = [column for own in measurer.columns.values() for column in own]
    result = EvalResult(records, columns, baseline, names, settings)
    if folder is not None:
        result.save(folder)
    return result


def _work(jobs: Sequence[VideoJob], settings: Mapping[str, Any]) -> list[Work]:
    """Pair videos with their fingerprints."""
    description = json.dumps([settings, versions()], sort_keys=True)
    return [(job, job.fingerprint(description)) for job in jobs]


def _prepare_sections(work: Sequence[Work], folder: Path, num_shown: int) -> Sections:
    shown = choose_shown([job for job, _ in work], [mark for _, mark in work], num_shown)
    sections = Sections((folder / PICTURES).absolute(), shown)
    sections.remove_others()
    return sections


def _measure(
    work: Sequence[Work],
    spec: MeasurerSpec,
    folder: Path | None,
    measure: Callable[[Sequence[Work], MeasurerSpec], Iterator[VideoRecord]],
) -> list[VideoRecord]:
    """Measure the videos that an earlier run has not finished; all records, in the order of the jobs."""
    file = RecordFile(None if folder is None else folder / RECORDS)
    sections = spec.sections
    # A finished video is measured again only for the sake of pictures that the earlier run was not asked for.
    finished = {mark: record for mark, record in file.finished.items() if sections is None or not sections.lacks(mark)}
    found = {mark: finished[mark] for _, mark in work if mark in finished}
    with Progress("Evaluating", len(work)) as progress:
        file.start(found.values())
        for _ in found:
            progress.advance()
        todo = [(job, mark) for job, mark in work if mark not in found]
        for record in measure(todo, spec):
            file.append(record)
            found[record.fingerprint] = record
            progress.begin(f"{record.method}: {record.video}")
            progress.advance()
    return [found[mark] for _, mark in work]


def _jobs(videos: Mapping[str, Any], prompts: PromptsLike | None, limit: int | None) -> list[VideoJob]:
    if not videos:
        raise UserError("An evaluation needs at least one set of videos, received none.")
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, received {limit!r}.")
    known = None if prompts is None else read_evaluation_prompts(prompts)
    jobs: list[VideoJob] = []
    names: dict[str, int] = {}
    for method, source in videos.items():
        if not isinstance(source, str | os.PathLike):
            own = _jobs_in_memory(method, source, known)
        elif known is not None:
            own = _jobs_of_folder(method, Path(source), known)
        else:
            own = _jobs_by_name(method, Path(source), names)
        jobs += own
    if known is None:
        _check_counterparts(jobs, list(videos))
    return [job for job in jobs if limit is None or job.prompt_index < limit]


def _jobs_of_folder(method: str, folder: Path, prompts: Sequence[EvaluationPrompt]) -> list[VideoJob]:
    matched = match_videos(folder, [prompt.text for prompt in prompts])
    jobs = []
    for video in matched:
        prompt = prompts[video.prompt]
        request = video_request(video.path, prompt.text, prompt.trajectory, prompt.intrinsics)
        jobs.append(VideoJob(method, _name(video.path, folder), video.prompt, video.seed, request, scene=prompt.scene))
    return jobs


def _jobs_by_name(method: str, folder: Path, names: dict[str, int]) -> list[VideoJob]:
    """Jobs without a prompt file: the index of a video is that of its name, without suffix, among all names."""
    jobs = []
    for path in find_videos(folder):
        name = _name(path, folder)
        index = names.setdefault(str(Path(name).with_suffix("")), len(names))
        jobs.append(VideoJob(method, name, index, 0, video_request(path, "", None, None)))
    return jobs


def _jobs_in_memory(
    method: str, videos: Iterable[VideoLike], prompts: Sequence[EvaluationPrompt] | None
) -> list[VideoJob]:
    items = list(videos)
    if prompts is not None and len(items) != len(prompts):
        raise UserError(f"Set {method!r} holds {len(items)} videos for {len(prompts)} prompts. Give one per prompt.")
    jobs = []
    for index, item in enumerate(items):
        prompt = None if prompts is None else prompts[index]
        scene = None if prompt is None else prompt.scene
        if isinstance(item, str | os.PathLike):
            request = video_request(
                Path(item),
                "" if prompt is None else prompt.text,
                None if prompt is None else prompt.trajectory,
                None if prompt is None else prompt.intrinsics,
            )
            jobs.append(VideoJob(method, str(item), index, 0, request, scene=scene))
        else:
            jobs.append(VideoJob(method, f"video {index}", index, 0, clip=_clip(item, prompt), scene=scene))
    return jobs


def _clip(item: Any, prompt: EvaluationPrompt | None) -> Clip:
    source = collect_clips(
        item,
        None if prompt is None else prompt.text,
        trajectory=None if prompt is None else prompt.trajectory,
        intrinsics=None if prompt is None else prompt.intrinsics,
    )
    (clip,) = source
    return clip


def _name(path: Path, folder: Path) -> str:
    return path.name if path == folder else path.relative_to(folder).as_posix()


def _check_counterparts(jobs: Sequence[VideoJob], methods: Sequence[str]) -> None:
    """Without a prompt file, equal names must mean equal prompts, and every set must hold the same names."""
    prompts: dict[int, VideoJob] = {}
    for job in jobs:
        first = prompts.setdefault(job.prompt_index, job)
        if first.prompt != job.prompt:
            raise UserError(
                f"{first.name!r} of {first.method} and {job.name!r} of {job.method} have the same name and different "
                f"prompts: {shorten(first.prompt)} and {shorten(job.prompt)}. Give the prompts in a file."
            )
    for method in methods:
        missing = sorted(set(prompts) - {job.prompt_index for job in jobs if job.method == method})
        if missing:
            lacking = prompts[missing[0]]
            raise UserError(
                f"Set {method!r} has no counterpart of {len(missing)} videos of other sets (first: {lacking.name!r} of "
                f"{lacking.method!r}). Without a prompt file, videos of several sets are compared for equal names. "
                "Give the prompts in a file, or rename the videos."
            )


def _check_baseline(baseline: str | None, methods: Sequence[str]) -> str | None:
    if baseline is None:
        return methods[0] if len(methods) > 1 else None
    if baseline not in methods:
        raise UserError(f"Unknown baseline {baseline!r}. Sets of videos: {list(methods)}.{suggest(baseline, methods)}")
    return baseline


def _check_workers(num_workers: int, jobs: Sequence[VideoJob], names: Sequence[str]) -> None:
    if num_workers < 1:
        raise UserError(f"num_workers must be at least 1, received {num_workers!r}.")
    if num_workers == 1:
        return
    if any(job.clip is not None for job in jobs):
        raise UserError("Videos in memory are measured in this process. Use num_workers=1, or give files.")
    registry = installed().registry
    own = [name for name in names if registry.find("reward", name).owner.is_process]
    if own:
        raise UserError(
            f"Metric {own[0]!r} is registered in this process alone, and other processes do not see it. Use "
            "num_workers=1, or make it a plugin."
        )


def _settings(spec: MeasurerSpec) -> dict[str, Any]:
    manifest: Manifest = spec.manifest
    options = {reward.name: reward.options for reward in manifest.rewards if reward.name in spec.metrics}
    dump: Any = {
        "metrics": {name: options.get(name, {}) for name in spec.metrics},
        "reconstructor": spec.reconstructor
        or (None if manifest.reconstructor is None else manifest.reconstructor.model_dump(exclude={"placement"})),
        "judge": None if manifest.judge is None else manifest.judge.model_dump(exclude={"placement"}),
        "device": resolve_device(spec.device or manifest.device),
    }
    settings: dict[str, Any] = json.loads(json.dumps(dump))
    return settings
