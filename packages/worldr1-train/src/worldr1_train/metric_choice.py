"""Selection of the rewards that an evaluation measures."""

from __future__ import annotations

from collections.abc import Sequence

from worldr1_core.errors import ManifestError
from worldr1_core.manifest import Manifest, RewardSpec
from worldr1_core.registry import Registry
from worldr1_core.reward import Requirement, Reward
from worldr1_core.reward_choice import RewardChoice, choose_rewards
from worldr1_train.section import EvaluationSection

DEFAULT_METRICS = (
    "psnr",
    "camera-accuracy",
    "gradient-x",
    "gradient-y",
    "row-variance",
    "column-variance",
    "sharpness-evenness",
)
"""Rewards that are measured by default if they are installed."""


def manifest_metrics(manifest: Manifest, evaluation: EvaluationSection | None, registry: Registry) -> list[str]:
    """Return the metrics of a manifest's evaluation; see `choose_metrics`."""
    return choose_metrics(choose_rewards(manifest.rewards, manifest.rewards, registry), evaluation, registry)


def choose_metrics(
    rewards: Sequence[RewardChoice], evaluation: EvaluationSection | None, registry: Registry
) -> list[str]:
    """Return the names of the rewards that an evaluation measures.

    These are the `metrics` of the evaluation, or by default the rewards of the run and the installed `DEFAULT_METRICS`.
    Rewards that compare a clip with the model before training are excluded: evaluations generate no such clips.

    Raises:
        UnknownNameError: A metric is not installed.
        ManifestError: `metrics` names a reward that compares with the model before training.
    """
    if evaluation is None:
        return []
    own = {reward.name: _compares(reward.source, registry) for reward in rewards}
    if evaluation.metrics is None:
        extra = [name for name in DEFAULT_METRICS if name in registry.names("reward")]
        return list(dict.fromkeys([*(name for name, compares in own.items() if not compares), *extra]))
    metrics = [name if name in own else registry.current_name("reward", name) for name in evaluation.metrics]
    for name in metrics:
        if own[name] if name in own else _compares(RewardSpec.model_validate({"name": name}), registry):
            raise ManifestError(
                f"train.evaluation.metrics names {name!r}, which compares a clip with the model before training. "
                "Evaluations do not support this; `change` already compares every metric with the model before "
                "training. Remove it from the metrics."
            )
    return list(dict.fromkeys(metrics))


def _compares(source: RewardSpec | type[Reward] | Reward, registry: Registry) -> bool:
    reward = registry.load("reward", source.name) if isinstance(source, RewardSpec) else source
    return Requirement.REFERENCE in getattr(reward, "requires", frozenset())
