"""Files for the upload to the hub: adapter configuration and model card.

The methods of TRL and transformers read `model.config`, which denoisers lack, and would write all weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.files import atomic_write_text
from worldr1_train.export import ADAPTER, WEIGHTS
from worldr1_train.model_card import (
    CardFacts,
    base_model_name,
    describe_manifest,
    fused_adapter_of,
    read_evaluations,
    write_model_card,
)
from worldr1_train.objective_choice import objective_name
from worldr1_train.options import OPTIONS

if TYPE_CHECKING:
    from worldr1_train.trainer import FlowGRPOTrainer

ADAPTER_CONFIG = "adapter_config.json"
"""File of peft's adapter configuration, which tools expect beside the adapter."""


def write_adapter_config(backbone: Backbone, spec: AdapterSpec | None, folder: Path) -> None:
    """Write peft's configuration beside an exported adapter.

    Args:
        backbone: Backbone with the adapter.
        spec: The adapter that was added; its values are written if the denoisers are not peft models.
        folder: Folder of the adapter.
    """
    base, _ = base_model_name(backbone)
    for module in backbone.denoisers.values():
        configs: dict[str, Any] = getattr(module, "peft_config", {})
        for config in configs.values():
            config = copy.copy(config)
            config.base_model_name_or_path, config.inference_mode = base, True
            config.save_pretrained(str(folder))
            return
    if spec is None:
        return
    document = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "target_modules": None if spec.target_modules is None else list(spec.target_modules),
        "inference_mode": True,
    }
    atomic_write_text(folder / ADAPTER_CONFIG, json.dumps(document, indent=2) + "\n")


def write_card(trainer: FlowGRPOTrainer, model_name: str | None, dataset_name: str | None, tags: Iterable[str]) -> None:
    """Write the model card of a trainer's run into its folder, as `README.md`."""
    args, folder = trainer.args, Path(trainer.args.output_dir)
    base, is_on_hub = base_model_name(trainer.backbone)
    generation = trainer.components.generation
    components = {"backbone": trainer.backbone, "sampler": trainer.sampler, "noise": generation.conditioner}
    rewards = {name: weight for stage in trainer.schedule.stages for name, weight in stage.weights.items()}
    options = {option.key: getattr(args, name) for name, option in OPTIONS.items() if not option.inherited}
    options = {"seed": args.seed, "rewards": rewards, "train": {**options, "max_steps": args.max_steps}}
    objectives = list(dict.fromkeys(objective_name(objective) for objective in trainer.objectives.values()))
    facts = CardFacts(
        name=model_name or getattr(trainer, "hub_model_id", None) or folder.absolute().name,
        base_model=base,
        is_on_hub=is_on_hub,
        fused_adapter=fused_adapter_of(trainer.backbone),
        export=WEIGHTS if args.full_finetuning else ADAPTER,
        steps=int(trainer.state.global_step),
        objectives=objectives,
        rewards=rewards,
        manifest=describe_manifest(folder, components, options),
        **read_evaluations(folder),
        tags=[*tags, *trainer._tag_names, *objectives],
        dataset=dataset_name,
    )
    write_model_card(facts, folder / "README.md")
