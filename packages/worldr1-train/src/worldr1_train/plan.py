"""Plan of a training run; its manifest, names, prompts, trackers and folders are checked before anything expensive."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldr1_core.errors import ManifestError, UserError
from worldr1_core.files import atomic_write_text, check_writable_folder
from worldr1_core.manifest import Manifest, parse_manifest, read_manifest_text
from worldr1_core.registry import Registry
from worldr1_core.yaml_source import parse_yaml
from worldr1_train.checkpoints import describe_damage, find_last_checkpoint, list_checkpoints
from worldr1_train.held_out_checks import check_held_out
from worldr1_train.launch import check_launch
from worldr1_train.metric_choice import manifest_metrics
from worldr1_train.objective_checks import check_manifest_objectives
from worldr1_train.prompts import evaluation_prompts, load_split
from worldr1_train.section import RENAMED_KEYS, EvaluationSection, StageSection, TrainSection
from worldr1_train.stage_rewards import check_stage_rewards, stage_rewards

RECORD = "run.json"
"""File with the inputs of a run, which must not change when it is resumed."""

FREE_TO_CHANGE = ("max_steps", "checkpoints", "failures", "samples", "report_to", "async_rewards", "chunks_ahead")
"""Keys of the section that a resumed run may change."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Checked inputs of a run.

    Attributes:
        manifest: The manifest, with overrides applied.
        section: Section `train` of the manifest.
        registry: Registry of the installed components.
        prompts: Split -> prompts, for every split that the run needs.
        metrics: Rewards that the evaluation measures.
        output_dir: Folder of the run.
        checkpoint: Checkpoint to resume from, or `None`.
        folder: Folder that relative paths in the manifest start from.
    """

    manifest: Manifest
    section: TrainSection
    registry: Registry
    prompts: Mapping[str, list[str]]
    metrics: list[str]
    output_dir: Path
    checkpoint: Path | None = None
    folder: Path = Path()

    @property
    def evaluation(self) -> EvaluationSection | None:
        """Settings of the evaluation, with paths resolved against the folder of the manifest."""
        return None if self.section.evaluation is None else self.section.evaluation.relative_to(self.folder)

    def evaluation_prompts(self, evaluation: EvaluationSection) -> list[str]:
        """Return one prompt per video of the evaluation."""
        return evaluation_prompts(evaluation, self.prompts[evaluation.prompts])


def plan_run(
    path: Path,
    registry: Registry,
    *,
    overrides: Sequence[str] = (),
    output_dir: Path | None = None,
    resume: bool = False,
) -> TrainingPlan:
    """Read and check all inputs of a run.

    Args:
        path: Manifest file.
        registry: Registry of the installed components.
        overrides: Changed values of the manifest, each as `a.b=value` with the value in YAML.
        output_dir: Folder of the run. Defaults to `runs/<name of the manifest>`.
        resume: Resume the run in the folder from its last checkpoint, or from the start if it has none yet.

    Raises:
        UserError: An input is invalid. The run has not been started.
    """
    manifest = read_manifest(path, registry, overrides)
    section = manifest.sections.get("train")
    if not isinstance(section, TrainSection):
        raise ManifestError(f"{path}: training needs a section `train`, e.g. `train: {{stages: [{{steps: 100}}]}}`.")
    check_launch("cpu" if manifest.device == "cpu" else None)
    check_manifest(path, manifest, section, registry)
    plan = TrainingPlan(
        manifest=manifest,
        section=section,
        registry=registry,
        prompts=_load_prompts(path, manifest, section),
        metrics=manifest_metrics(manifest, section.evaluation, registry),
        output_dir=(Path("runs") / path.stem if output_dir is None else output_dir).absolute(),
        folder=path.parent,
    )
    return _with_checkpoint(plan, resume)


def read_manifest(path: Path, registry: Registry, overrides: Sequence[str] = ()) -> Manifest:
    """Load a manifest and apply overrides. With overrides, errors have no line numbers.

    Raises:
        ManifestError: The manifest is invalid, or an override is malformed.
    """
    text = read_manifest_text(path)
    if not overrides:
        return parse_manifest(text, registry, name=str(path))
    data = parse_yaml(text, str(path)).data
    for override in overrides:
        data = _override(data, override)
    name = f"{path} with --set"
    try:
        return parse_manifest(json.dumps(data), registry, name=name)
    except ManifestError as error:
        raise ManifestError(str(error).replace(f"{name}:1:", f"{name}:")) from error


def _override(data: Any, override: str) -> Any:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ManifestError(f"--set takes key.of.manifest=value, received {override!r}.")
    parts: list[str | int] = [int(part) if part.isdigit() else part for part in key.split(".")]
    holder = data if isinstance(data, dict) else {}
    target: Any = holder
    for part in parts[:-1]:
        target = _enter(target, part, override)
    last = parts[-1]
    if isinstance(target, list) and not (isinstance(last, int) and last < len(target)):
        raise ManifestError(f"--set {override!r}: there is no entry {last!r}; the list has {len(target)} entries.")
    if not isinstance(target, dict | list):
        raise ManifestError(
            f"--set {override!r}: {'.'.join(map(str, parts[:-1]))} is a plain value and has no key {last!r}."
        )
    target[last] = parse_yaml(value, f"--set {override}").data  # type: ignore[index]
    return holder


def _enter(target: Any, part: str | int, override: str) -> Any:
    if isinstance(target, list):
        if not isinstance(part, int) or part >= len(target):
            raise ManifestError(f"--set {override!r}: there is no entry {part!r}; the list has {len(target)} entries.")
        return target[part]
    if not isinstance(target, dict):
        raise ManifestError(f"--set {override!r}: a plain value has no key {part!r}.")
    if target.get(str(part)) is None:
        target[str(part)] = {}
    return target[str(part)]


def check_manifest(path: Path, manifest: Manifest, section: TrainSection, registry: Registry) -> None:
    """Check that a manifest can be trained; no prompts are read, and nothing is created that loads weights.

    Args:
        path: Manifest file.
        manifest: Its content.
        section: Its section `train`.
        registry: Registry of the installed components.

    Raises:
        UserError: It cannot: a component is missing, or parts of the manifest contradict each other.
    """
    _check_components(path, manifest, registry)
    metrics = manifest_metrics(manifest, section.evaluation, registry)
    if section.evaluation is not None:
        check_held_out(section.evaluation.relative_to(path.parent), metrics)
    for index, stage in enumerate(section.stages):
        _check_stage(f"{path}: train.stages.{index}", stage, manifest, registry)
    check_manifest_objectives(str(path), manifest, section, registry)
    _check_trackers(section.report_to)


def _check_components(path: Path, manifest: Manifest, registry: Registry) -> None:
    for key, kind in (("backbone", "backbone"), ("sampler", "sampler")):
        if getattr(manifest, key) is None:
            raise ManifestError(
                f"{path}: training needs a {key}, but the manifest has none. Add `{key}: {{name: …}}`. Installed: "
                f"{registry.names(kind)}."
            )
    if not manifest.rewards:
        raise ManifestError(f"{path}: training needs at least one reward. Add `rewards: [{{name: …}}]`.")


def _check_stage(where: str, stage: StageSection, manifest: Manifest, registry: Registry) -> None:
    weights = {reward.name: reward.weight for reward in manifest.rewards}
    check_stage_rewards(where, stage_rewards(stage, weights, registry), weights, "this manifest")


def _load_prompts(path: Path, manifest: Manifest, section: TrainSection) -> dict[str, list[str]]:
    splits = [stage.prompts for stage in section.stages]
    if section.evaluation is not None:
        splits.append(section.evaluation.prompts)
    return {split: load_split(manifest.prompts, split, path.parent) for split in dict.fromkeys(splits)}


def _check_trackers(trackers: Sequence[str]) -> None:
    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(
                f"train.report_to names {tracker!r}, which is not installed. Install it with: pip install {tracker}"
            )


def _with_checkpoint(plan: TrainingPlan, resume: bool) -> TrainingPlan:
    check_writable_folder(plan.output_dir)
    record = plan.output_dir / RECORD
    if not resume:
        if record.exists() or list_checkpoints(plan.output_dir):
            raise UserError(
                f"{str(plan.output_dir)!r} already contains a run. Continue it with --resume, or choose another "
                "--output-dir."
            )
        return plan
    _check_run_exists(plan.output_dir)
    if record.exists():
        renamed = {alias.old: alias.new for alias in plan.registry.aliases() if alias.kind == "reward"}
        before, now = json.loads(record.read_text(encoding="utf-8")), describe_run(plan)
        _check_same_run(_with_current_names(before, renamed), _with_current_names(now, renamed), plan.output_dir)
    checkpoint = find_last_checkpoint(plan.output_dir)
    if checkpoint is None and (damaged := list_checkpoints(plan.output_dir)):
        raise UserError(
            f"--resume: none of the {len(damaged)} checkpoints in {str(plan.output_dir)!r} is complete (last: "
            f"{damaged[-1].name!r}, {describe_damage(damaged[-1])}). Restore one, or start a new run in another "
            "--output-dir."
        )
    return TrainingPlan(**{name: getattr(plan, name) for name in plan.__slots__} | {"checkpoint": checkpoint})


def _check_run_exists(folder: Path) -> None:
    """Raise an error if a folder contains no run to resume, instead of silently starting a new one."""
    if (folder / RECORD).exists() or list_checkpoints(folder):
        return
    found = f"the folder has neither {RECORD} nor a checkpoint" if folder.is_dir() else "there is no such folder"
    runs = sorted(path.parent.name for path in folder.parent.glob(f"*/{RECORD}")) if folder.parent.is_dir() else []
    beside = f" Runs in the same parent folder: {runs[:8]}." if runs else ""
    raise UserError(
        f"--resume: there is no run in {str(folder)!r}: {found}.{beside} Set --output-dir to the folder of the run, or "
        "omit --resume to start a new run."
    )


def describe_run(plan: TrainingPlan) -> dict[str, Any]:
    """Return the settings that determine the results of a run, as plain data."""
    section = plan.section.model_dump(mode="json", exclude=set(FREE_TO_CHANGE))
    placement = {"placement"}  # where rewards run does not change their scores
    left_out: dict[str, Any] = {
        "device": True,
        "prompts": True,
        "reconstructor": placement,
        "judge": placement,
        "rewards": {"__all__": placement},
    }
    manifest = plan.manifest.model_dump(mode="json", exclude=left_out)
    return {**manifest, "train": section, "prompts": dict(plan.prompts), "metrics": plan.metrics}


def record_run(plan: TrainingPlan) -> None:
    """Write the inputs of the run to its folder."""
    atomic_write_text(plan.output_dir / RECORD, json.dumps(describe_run(plan), indent=1, ensure_ascii=False) + "\n")


def _with_current_names(record: Any, renamed: Mapping[str, str]) -> Any:
    """Replace deprecated names and values in the record of a run by current ones."""
    if isinstance(record, dict):
        record = {RENAMED_KEYS.get(key, key): _with_current_names(value, renamed) for key, value in record.items()}
        return {**record, "credit": "spatial"} if record.get("credit") == "place" else record
    if isinstance(record, list):
        return [_with_current_names(value, renamed) for value in record]
    return renamed.get(record, record) if isinstance(record, str) else record


def _check_same_run(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    changed = sorted(_differences(before, now, ""))
    if changed:
        raise UserError(
            f"The run in {str(folder)!r} was started with another manifest; changed: {changed[:8]}. Resume with the "
            "original manifest, or choose another --output-dir. Keys that may change: "
            f"{', '.join(f'train.{name}' for name in FREE_TO_CHANGE)}."
        )


def _differences(before: Any, now: Any, key: str) -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        found: list[str] = []
        for name in before.keys() | now.keys():
            inner = f"{key}.{name}" if key else str(name)
            found += _differences(before.get(name), now.get(name), inner)
        return found
    return [] if before == now else [key]
