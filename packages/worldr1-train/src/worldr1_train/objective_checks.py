"""Checks of objectives: the sizes that they need, before weights are loaded, and the form of their losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from worldr1_core.component import load_component
from worldr1_core.compose import build
from worldr1_core.errors import ManifestError, PluginError, UnknownNameError, UserError, shorten
from worldr1_core.frame_scoring import SCORES_ALONE, refuse_without_gradient
from worldr1_core.manifest import Manifest
from worldr1_core.objective import Objective, UpdateBatch
from worldr1_core.registry import Registry
from worldr1_core.reward import Reward
from worldr1_core.sampler import Sampler
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective
from worldr1_train.section import ObjectiveSection, ObjectiveSpec, TrainSection
from worldr1_train.stage_rewards import stage_rewards
from worldr1_train.stages import WeightedObjective

STATISTICS = "Remove them from the options of the objective."
"""What to do about statistics without gradients."""


def check_manifest_objectives(where: str, manifest: Manifest, section: TrainSection, registry: Registry) -> None:
    """Check that the objectives of a manifest can train with its sizes, its sampler and its rewards.

    Only classes and options are looked at. Rewards whose options decide whether they have a gradient are checked when
    they are created.

    Args:
        where: Location of the manifest, for messages.
        manifest: The manifest, with a sampler and rewards.
        section: Its section `train`.
        registry: Where names are looked up.

    Raises:
        ManifestError: They cannot; the message names the key.
    """
    assert manifest.sampler is not None
    sampler = build(manifest.sampler, "sampler", Sampler, registry, "cpu").config
    rewards = {reward.name: reward for reward in manifest.rewards}
    for index, stage in enumerate(section.stages):
        given = section.objective if stage.objective is None else stage.objective
        key = "train.objective" if stage.objective is None else f"train.stages.{index}.objective"
        trained = [name for name in stage_rewards(stage, rewards, registry) if rewards[name].weight > 0]
        away = [name for name in trained if rewards[name].placement is not None]
        try:
            objectives = _create(given, registry)
            check_sizes(
                objectives,
                group_size=section.group_size,
                micro_batch_size=section.micro_batch_size,
                window=sampler.window,
                num_inference_steps=sampler.num_inference_steps,
            )
            for weighted in objectives:
                _check_reward_gradients(weighted, trained, away, registry)
        except UserError as error:
            raise ManifestError(f"{where}: {key}: {error}") from error


def _create(given: ObjectiveSection | ObjectiveSpec | Sequence[ObjectiveSpec], registry: Registry) -> list[Any]:
    if isinstance(given, ObjectiveSection):
        return [WeightedObjective(FlowGRPOObjective(), name="flow-grpo")]
    specs = [given] if isinstance(given, ObjectiveSpec) else given
    return [
        WeightedObjective(build(spec, "objective", Objective, registry, "cpu"), spec.weight, name=spec.name)
        for spec in specs
    ]


def _check_reward_gradients(
    weighted: WeightedObjective, trained: Sequence[str], away: Sequence[str], registry: Registry
) -> None:
    """Check the classes of the rewards that an objective differentiates."""
    objective, name = weighted.objective, f"Objective {weighted.name!r}"
    if not objective.plan.scored:
        lacking = [reward for reward in trained if reward not in away and _lacks_gradient(reward, registry)]
        refuse_without_gradient(name, away=away, lacking=lacking, remedy=SCORES_ALONE)
    statistics = list(objective.statistics)
    name = f"{name} (statistics {statistics})"
    try:
        lacking = [reward for reward in statistics if _lacks_gradient(reward, registry)]
    except UnknownNameError as error:
        raise UserError(f"{name}: {error}") from error
    refuse_without_gradient(name, away=[], lacking=lacking, remedy=STATISTICS)


def _lacks_gradient(name: str, registry: Registry) -> bool:
    """Whether no object of the reward's class has a gradient."""
    reward: Any = load_component(registry, "reward", name)
    return reward.score_frames is Reward.score_frames and reward.has_gradient is Reward.has_gradient


def check_sizes(
    objectives: Iterable[WeightedObjective],
    *,
    group_size: int,
    micro_batch_size: int,
    window: int,
    num_inference_steps: int,
) -> None:
    """Check that the group size, the micro-batch size and the sampler's steps suit the objectives.

    Args:
        objectives: Objectives of the run.
        group_size: Videos per prompt.
        micro_batch_size: Items per micro-batch.
        window: Number of stochastic steps of the sampler.
        num_inference_steps: Number of steps of the sampler.

    Raises:
        UserError: They do not; the message names the objective.
        PluginError: `Objective.num_items` returns no integer of at least 1.
    """
    group, batch = group_size, micro_batch_size
    for weighted in objectives:
        name, objective = weighted.name, weighted.objective
        if objective.plan.steps == "window" and window < 1:
            raise UserError(
                f"Objective {name!r} needs a window of stochastic steps, received window {window!r}. Set the sampler's "
                "window to 1 or 2."
            )
        if objective.plan.scored and group < 2:
            raise UserError(
                f"Objective {name!r} compares the videos of a group, received group_size {group} (num_generations in "
                "Python). Use 2 or more."
            )
        if objective.compares_videos and (min(group, batch) < 2 or (batch % group and group % batch)):
            raise UserError(
                f"Objective {name!r} compares the videos of a prompt in a micro-batch, received group_size {group} "
                f"(num_generations in Python) and micro_batch_size {batch} (per_device_train_batch_size). Use 2 or "
                "more of both, one of them a multiple of the other."
            )
        _check_items(name, objective, window if objective.plan.steps == "window" else num_inference_steps)


def _check_items(name: str, objective: Objective, num_steps: int) -> None:
    found: Any = objective.num_items(num_steps)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise PluginError(
            f"Objective {name!r}: num_items({num_steps}) must return an integer of at least 1, received "
            f"{shorten(found)}."
        )


def check_loss(name: str, found: Any, batch: UpdateBatch) -> Tensor:
    """Return the loss of a micro-batch if it has the form that `Objective.loss` promises.

    Args:
        name: Name of the objective.
        found: What `Objective.loss` returned.
        batch: The micro-batch.

    Raises:
        PluginError: It is no tensor with one value per item, or has no gradient.
    """
    expected = tuple(batch.valid.shape)
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else shorten(found)
        raise PluginError(
            f"Objective {name!r}: loss must return a tensor of shape {expected}, one value per item, received {what}. "
            "Average over all dimensions but the first."
        )
    if torch.is_grad_enabled() and not found.requires_grad:
        raise PluginError(
            f"Objective {name!r}: the loss has no gradient. Compute it from policy.predict or policy.denoise, and "
            "neither detach it nor compute it under torch.no_grad()."
        )
    return found
