"""Evaluation without training, of a model with or without an adapter, or of videos in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch

from worldr1_core.clip import Clip
from worldr1_core.compose import compose_scoring, resolve_device
from worldr1_core.errors import ManifestError
from worldr1_core.generation_components import compose_generation
from worldr1_core.manifest import Manifest
from worldr1_core.registry import Registry
from worldr1_core.reward_choice import choose_rewards
from worldr1_core.scoring import ScoringEngine
from worldr1_core.video_io import find_videos, read_video
from worldr1_train.alarm_log import AlarmWatch
from worldr1_train.alarms import Alarm
from worldr1_train.evaluation import Evaluation, Evaluator, metric_name
from worldr1_train.evaluation_videos import EvaluationVideos
from worldr1_train.held_out import with_held_out
from worldr1_train.held_out_checks import check_held_out
from worldr1_train.metric_choice import manifest_metrics
from worldr1_train.policy_model import PolicyModel
from worldr1_train.policy_pipeline import policy_pipeline
from worldr1_train.precision import runs_in_bfloat16
from worldr1_train.prompts import evaluation_prompts, load_split
from worldr1_train.section import EvaluationSection, TrainSection
from worldr1_train.seeds import run_seed
from worldr1_train.video_prompts import prompt_beside


def evaluation_section(manifest: Manifest) -> EvaluationSection:
    """Return the manifest's `train.evaluation`, or the default settings."""
    section = manifest.sections.get("train")
    return (section.evaluation if isinstance(section, TrainSection) else None) or EvaluationSection()


def evaluate_model(manifest: Manifest, registry: Registry, base: Path, adapter: Path | None = None) -> Evaluation:
    """Generate the manifest's test videos and measure them.

    Args:
        manifest: Manifest with backbone, sampler, rewards and prompts.
        registry: Where names are looked up.
        base: Folder that relative paths in the manifest start from.
        adapter: Folder of a trained adapter; `None` for the model without one.

    Raises:
        UserError: The manifest lacks a component, or a file is missing.
    """
    section = evaluation_section(manifest).relative_to(base)
    metrics = manifest_metrics(manifest, section, registry)
    check_held_out(section, metrics)
    scorer = ScoringEngine(compose_scoring(manifest, registry, only=metrics))
    videos = make_evaluation_videos(manifest, registry, base)
    if adapter is not None:
        videos.pipeline.backbone.load_adapter(adapter)
    return with_held_out(Evaluator(videos, scorer, section.batch_size), section)()


def make_evaluation_videos(manifest: Manifest, registry: Registry, base: Path) -> EvaluationVideos:
    """Create the evaluation videos of `worldr1 train`, for a model without an adapter.

    Args:
        manifest: Manifest with backbone, sampler and prompts.
        registry: Where names are looked up.
        base: Folder that relative paths of prompt files start from.

    Raises:
        UserError: The manifest lacks a component, or a prompt file is missing.
    """
    section, device = evaluation_section(manifest), resolve_device(manifest.device)
    prompts = evaluation_prompts(section, load_split(manifest.prompts, section.prompts, base))
    if manifest.backbone is None or manifest.sampler is None:
        raise ManifestError(
            "Evaluating a model needs `backbone` and `sampler` in the manifest. Add them, or measure a folder of "
            "videos with --videos."
        )
    components = compose_generation(manifest, registry, device)
    pipeline = policy_pipeline(
        components,
        PolicyModel(components.backbone),
        _autocast(manifest, device),
        num_inference_steps=section.num_inference_steps,
    )
    return EvaluationVideos(pipeline, prompts, run_seed(manifest))


def _autocast(manifest: Manifest, device: str) -> Callable[[], AbstractContextManager[None]]:
    """Return the autocast context in which `worldr1 train` would run the denoisers."""
    section = manifest.sections.get("train")
    if runs_in_bfloat16(section.precision if isinstance(section, TrainSection) else "auto", device):
        return lambda: torch.autocast(torch.device(device).type, torch.bfloat16)
    return contextlib.nullcontext


def evaluate_videos(manifest: Manifest, registry: Registry, folder: Path) -> Evaluation:
    """Measure the videos of a folder.

    Args:
        manifest: Manifest with the rewards.
        registry: Where names are looked up.
        folder: Folder of videos. The prompt of a video is read from a text file with the same name beside it, or from
            the `.json` file that `worldr1 generate` writes.

    Raises:
        UserError: There is no video, or one cannot be read.
    """
    metrics = manifest_metrics(manifest, evaluation_section(manifest), registry)
    scorer = ScoringEngine(compose_scoring(manifest, registry, only=metrics))
    prompts: list[str] = []
    values: dict[str, list[float]] = {metric_name(name): [] for name in metrics}
    for result in scorer.score(_clips(folder)):
        prompts.append(result.clip.prompt)
        for name, score in result.scores.items():
            values[metric_name(name)].append(score.value)
    return Evaluation(prompts, values)


def _clips(folder: Path) -> Iterator[Clip]:
    for path in find_videos(folder):
        video, prompt = read_video(path), prompt_beside(path)
        # Without `moves`, rewards compare with the exact camera path, as in training, not with the kind of motion.
        yield replace(Clip(video, prompt, name=path.name), moves=())


def check_alarms(manifest: Manifest, registry: Registry, before: Evaluation, after: Evaluation) -> list[Alarm]:
    """Find the alarms of two evaluations and log them as warnings; none if alarms are disabled or there are no rewards.

    Args:
        manifest: Manifest of the training; its rewards with a weight above 0 count as trained on.
        registry: Where names are looked up.
        before: Evaluation of the model before training.
        after: Evaluation of the trained model.
    """
    alarms = evaluation_section(manifest).alarms
    if alarms is None or not manifest.rewards:
        return []
    chosen = choose_rewards(manifest.rewards, manifest.rewards, registry)
    trained = [metric_name(reward.name) for reward in chosen if reward.weight > 0]
    return AlarmWatch(before, trained, alarms.rule()).check(after)
