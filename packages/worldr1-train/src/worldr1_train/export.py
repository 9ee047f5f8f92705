"""Export of the trained weights in a format that plain diffusers pipelines load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldr1_core.backbone import AdapterSpec, Backbone
from worldr1_core.errors import UserError
from worldr1_train.policy_model import PolicyModel, copy_parameters, whole_tensor

ADAPTER, WEIGHTS = "adapter", "weights"
"""Folders of a run that hold the trained adapter, or every weight."""


def export(backbone: Backbone, folder: Path, *, adapter: bool) -> None:
    """Write the trained weights in diffusers' layout.

    Args:
        backbone: Model with the weights to write.
        folder: Target folder.
        adapter: The adapter; else every denoiser, in a folder of its name.

    Raises:
        UserError: A denoiser is no diffusers model.
    """
    if adapter:
        backbone.save_adapter(folder)
        return
    denoisers: dict[str, Any] = dict(backbone.denoisers)
    for name, module in denoisers.items():
        if not hasattr(module, "save_pretrained"):
            raise UserError(f"{type(module).__name__} has no save_pretrained; its weights are in the checkpoints.")
        module.save_pretrained(folder / name)


def unshard(model: PolicyModel, adapter: AdapterSpec | None, *, is_main: bool) -> Backbone:
    """A second backbone, on the CPU of the main process, with the weights that lie on all processes.

    Args:
        model: Policy, whose parameters are sharded; all processes call this.
        adapter: The adapter that was added to its backbone; `None` if every weight is trained.
        is_main: Whether this process gets the copy; the others get the backbone as it is.
    """
    weights = {name: whole_tensor(p.detach()).cpu() for name, p in model.trainable().items()}
    if not is_main:
        return model.backbone
    backbone = type(model.backbone)(model.backbone.config, device="cpu")
    if adapter is not None:
        backbone.add_adapter(adapter)
    copy_parameters(PolicyModel(backbone, full=adapter is None).trainable(), weights)
    return backbone
