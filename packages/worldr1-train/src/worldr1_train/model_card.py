"""Model card of a training run: base model, rewards, manifest, and the evaluations before and after training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from worldr1_core.backbone import Backbone
from worldr1_core.component import Component
from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY, Change, Evaluation, compare
from worldr1_train.plan import RECORD

PAPER = "https://arxiv.org/abs/2604.24764"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Contents of a model card.

    Attributes:
        name: Name of the model.
        base_model: Hub id, path or class of the model that was trained.
        is_on_hub: Whether `base_model` is a hub id.
        fused_adapter: Adapter that was fused into the model before training, or `None`.
        export: Folder of the repository with the adapter or the weights.
        steps: Optimiser steps.
        objectives: Names of the objectives.
        rewards: Name -> weight.
        manifest: Inputs of the run.
        before: Evaluation of the model before training, or `None`.
        after: Evaluation of the trained model, or `None`.
        noise_only: Evaluation of the model before training with the manifest's noise conditioner, or `None`.
        tags: Tags for the hub.
        dataset: Hub id of the prompt dataset, or `None`.
    """

    name: str
    base_model: str
    is_on_hub: bool
    export: str
    steps: int
    objectives: Sequence[str]
    rewards: Mapping[str, float]
    manifest: Mapping[str, Any]
    fused_adapter: str | None = None
    before: Evaluation | None = None
    after: Evaluation | None = None
    noise_only: Evaluation | None = None
    tags: Sequence[str] = field(default_factory=tuple)
    dataset: str | None = None


def base_model_name(backbone: Backbone) -> tuple[str, bool]:
    """Return the name of a backbone's model, and whether it is a hub id."""
    path = getattr(backbone.config, "path", None)
    if not isinstance(path, str):
        return type(backbone).__name__, False
    is_local = path.startswith(("/", ".", "~")) or Path(path).exists()
    return path, not is_local and path.count("/") == 1


def fused_adapter_of(backbone: Backbone) -> str | None:
    """Return the adapter that a backbone fuses into its weights, if any."""
    folder = getattr(backbone.config, "fused_adapter", None)
    return folder if isinstance(folder, str) else None


def read_evaluations(folder: Path) -> dict[str, Evaluation]:
    """Load the evaluations in the folder of a run, with the keys `before`, `noise_only` and `after` of `CardFacts`."""
    files = {"before": BEFORE, "noise_only": NOISE_ONLY, "after": AFTER}
    return {name: Evaluation.load(folder / file) for name, file in files.items() if (folder / file).exists()}


def describe_manifest(folder: Path, components: Mapping[str, Component], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a run: its record if there is one, otherwise its components and options.

    Args:
        folder: Folder of the run, to which `worldr1 train` writes a record.
        components: Manifest key -> component.
        options: Other options of the run.
    """
    record = folder / RECORD
    if record.exists():
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return {key: value for key, value in found.items() if key != "prompts" and value is not None}
    described = {
        key: {"class": type(value).__name__, **value.config.model_dump(mode="json")}
        for key, value in components.items()
    }
    return {**described, **options}


def write_model_card(facts: CardFacts, path: Path) -> None:
    """Write a model card with its metadata for the hub."""
    metadata: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-video",
        "tags": sorted({*facts.tags}),
    }
    if facts.is_on_hub:
        metadata["base_model"] = facts.base_model
    if facts.dataset is not None:
        metadata["datasets"] = [facts.dataset]
    parts = [f"# {facts.name}", _summary(facts), _rewards(facts.rewards), _evaluation(facts), _usage(facts)]
    parts.append("## Manifest\n\n```yaml\n" + _yaml(dict(facts.manifest)) + "```")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\n{_yaml(metadata)}---\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def _summary(facts: CardFacts) -> str:
    objectives = " and ".join(f"`{name}`" for name in facts.objectives)
    fused = "" if facts.fused_adapter is None else f" with the adapter `{facts.fused_adapter}` fused into it"
    return (
        f"`{facts.base_model}`{fused}, post-trained for {facts.steps} optimiser steps with [World-R1]({PAPER})'s "
        f"rewards and the objective {objectives}."
    )


def _rewards(rewards: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {name} | {weight:g} |" for name, weight in rewards.items())
    return f"## Rewards\n\n| reward | weight |\n| --- | --- |\n{rows}"


def _evaluation(facts: CardFacts) -> str:
    title = "## Evaluation\n\n"
    if facts.before is None or facts.after is None:
        return title + "The run was not evaluated before and after training."
    columns = {"before": facts.before, "noise only": facts.noise_only, "after": facts.after}
    means = {name: evaluation.means() for name, evaluation in columns.items() if evaluation is not None}
    changes = compare(facts.before if facts.noise_only is None else facts.noise_only, facts.after)
    rows = [
        f"| {name} | {' | '.join(_number(column.get(name)) for column in means.values())} | "
        f"{_change(changes.get(name))} |"
        for name in means["before"]
    ]
    noise = "" if facts.noise_only is None else " by training alone (from noise only to after)"
    return (
        f"{title}{len(facts.after.prompts)} videos with the same prompts and seeds; mean paired change{noise} with its "
        f"95 % bootstrap interval.\n\n| metric | {' | '.join(means)} | change |\n"
        f"| --- |{' --- |' * len(means)} --- |\n" + "\n".join(rows)
    )


def _usage(facts: CardFacts) -> str:
    if facts.export != "adapter":
        return f"## Use\n\nThe folder `{facts.export}` contains all weights of the denoisers in diffusers' layout."
    lines = [
        "from diffusers import DiffusionPipeline",
        "",
        f'pipeline = DiffusionPipeline.from_pretrained("{facts.base_model}")',
    ]
    if facts.fused_adapter is not None:
        lines.append(f'pipeline.load_lora_weights("{facts.fused_adapter}")')
        lines += ["pipeline.fuse_lora()", "pipeline.unload_lora_weights()"]
    lines.append(f'pipeline.load_lora_weights("{facts.name}", subfolder="{facts.export}")')
    return "\n".join(["## Use", "", "```python", *lines, "```"])


def _change(change: Change | None) -> str:
    return "-" if change is None else f"{change.mean:+.4g} ({change.low:+.4g} to {change.high:+.4g})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _yaml(document: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
    return text
