"""What worldr1-train registers: its commands and the `train` section of the manifest, and objectives."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_manifest_sections() -> dict[str, str]:
    """The section `train`."""
    return {"train": "worldr1_train.section:TrainSection"}


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """`worldr1 train`, `worldr1 eval`, `worldr1 curves` and `worldr1 compare-videos`."""
    return {
        "train": "worldr1_train.cli:train",
        "eval": "worldr1_train.cli_eval:evaluate",
        "curves": "worldr1_train.cli_curves:curves",
        "compare-videos": "worldr1_train.cli_compare_videos:compare_videos",
    }


@hookimpl
def worldr1_register_objectives() -> dict[str, str]:
    """The paper's objective, and objectives for rewards with gradients and for samplers without densities."""
    return {
        "flow-grpo": "worldr1_train.objectives.flow_grpo:FlowGRPOObjective",
        "reward-gradient": "worldr1_train.objectives.reward_gradient:RewardGradientObjective",
        "nft": "worldr1_train.objectives.nft:NFTObjective",
        "awm": "worldr1_train.objectives.awm:AWMObjective",
    }


@hookimpl
def worldr1_register_aliases() -> dict[str, dict[str, str]]:
    """Names that commands had before they were renamed; each warns."""
    return {"command": {"sheet": "compare-videos"}}
