"""Export of the trained weights in a format that diffusers pipelines can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.errors import UserError
from worldr1_train.policy_model import PolicyModel, copy_parameters, whole_tensor

ADAPTER, WEIGHTS = "adapter", "weights"
"""Folders of a run for the trained adapter, or for all weights."""


def export(backbone: Backbone, folder: Path, *, adapter: bool) -> None:
    """Write the trained weights in diffusers' layout.

    Args:
        backbone: Model with the weights to write.
        folder: Target folder.
        adapter: Write only the adapter; otherwise every denoiser, in a subfolder with its name.

    Raises:
        UserError: A denoiser is not a diffusers model.
    """
    if adapter:
        backbone.save_adapter(folder)
        return
    denoisers: dict[str, Any] = dict(backbone.denoisers)
    for name, module in denoisers.items():
        if not hasattr(module, "save_pretrained"):
            raise UserError(
                f"{type(module).__name__} cannot be exported, because it has no save_pretrained. Its weights are in "
                "the checkpoints."
            )
        module.save_pretrained(folder / name)


def unshard(model: PolicyModel, adapter: AdapterSpec | None, *, is_main: bool) -> Backbone:
    """Create a copy of the backbone with unsharded weights, on the CPU of the main process.

    All processes must call it.

    Args:
        model: Policy with sharded parameters.
        adapter: The adapter that was added to the backbone; `None` if every weight is trained.
        is_main: Whether to return the copy; other processes return the sharded backbone.
    """
    weights = {name: whole_tensor(p.detach()).cpu() for name, p in model.trainable().items()}
    if not is_main:
        return model.backbone
    backbone = type(model.backbone)(model.backbone.config, device="cpu")
    if adapter is not None:
        backbone.add_adapter(adapter)
    copy_parameters(PolicyModel(backbone, full=adapter is None).trainable(), weights)
    return backbone
