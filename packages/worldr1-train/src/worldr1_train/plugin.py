"""Plugin of worldr1-train: registers commands, the manifest section `train`, and objectives."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_manifest_sections() -> dict[str, str]:
    """Register the sections `train` and `variants`."""
    return {
        "train": "worldr1_train.section:TrainSection",
        "variants": "worldr1_train.variants_section:VariantsSection",
    }


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """Register `worldr1 train`, `ablate`, `eval-model`, `curves`, `compare-videos` and `report`.

    `worldr1 eval` of worldr1-rewards calls `eval-model` for manifests; without that package it is the same command.
    """
    return {
        "train": "worldr1_train.cli:train",
        "ablate": "worldr1_train.cli_ablate:ablate",
        "eval-model": "worldr1_train.cli_eval:evaluate",
        "curves": "worldr1_train.cli_curves:curves",
        "compare-videos": "worldr1_train.cli_compare_videos:compare_videos",
        "report": "worldr1_train.cli_report:report",
    }


@hookimpl
def worldr1_register_objectives() -> dict[str, str]:
    """Register the paper's objective, and objectives for differentiable rewards and for deterministic samplers."""
    return {
        "flow-grpo": "worldr1_train.objectives.flow_grpo:FlowGRPOObjective",
        "reward-gradient": "worldr1_train.objectives.reward_gradient:RewardGradientObjective",
        "nft": "worldr1_train.objectives.nft:NFTObjective",
        "awm": "worldr1_train.objectives.awm:AWMObjective",
    }


@hookimpl
def worldr1_register_aliases() -> dict[str, dict[str, str]]:
    """Register old names of renamed commands; using one gives a warning."""
    return {"command": {"sheet": "compare-videos", "eval": "eval-model"}}
