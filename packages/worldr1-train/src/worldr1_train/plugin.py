"""What worldr1-train registers: its commands and the `train` section of the manifest."""

from __future__ import annotations

from worldr1_core import hookimpl


@hookimpl
def worldr1_register_manifest_sections() -> dict[str, str]:
    """The section `train`."""
    return {"train": "worldr1_train.section:TrainSection"}


@hookimpl
def worldr1_register_commands() -> dict[str, str]:
    """`worldr1 train`, `worldr1 eval`, `worldr1 curves` and `worldr1 sheet`."""
    return {
        "train": "worldr1_train.cli:train",
        "eval": "worldr1_train.cli_eval:evaluate",
        "curves": "worldr1_train.cli_curves:curves",
        "sheet": "worldr1_train.cli_sheet:sheet",
    }
