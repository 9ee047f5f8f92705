"""Adapter files in diffusers' layout, and checks that a file holds a complete adapter of a module.

Diffusers loads the layers that it finds. A file that lost half of its layers then gives half an adapter, and one
without the scale (`lora_alpha`) an adapter of another strength, both without a warning. A file is therefore compared
with the module that it is loaded into, and with the configuration that it was saved with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from worldr1_backbones.loading import LOADING_ERRORS
from worldr1_core.errors import WeightsError
from worldr1_core.log import get_logger

log = get_logger(__name__)

METADATA_KEY = "lora_adapter_metadata"
"""Key of peft's configuration in the metadata of a safetensors file that diffusers wrote."""

PEFT_CONFIG = "adapter_config.json"
"""Name of peft's own configuration file, beside the weights."""

FUSED_PREFIX = "fused:"
"""Begins peft's `base_model_name_or_path` of an adapter that was trained on top of a fused one; a digest follows."""

_FACTOR = re.compile(r"(.+)\.lora_([AB])\.weight")
_MATCHED_BY = (
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "modules_to_save",
    "target_parameters",
)
"""Entries of peft's configuration that decide which layers are adapted."""


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """Adapter of one denoiser as read from disk.

    Attributes:
        path: The safetensors file.
        state: Name within the denoiser -> factor.
        config: Peft's configuration from the file's metadata; empty where it states none.
        config_beside: Peft's configuration from `adapter_config.json` beside the file; empty where there is none.
    """

    path: Path
    state: Mapping[str, Tensor]
    config: Mapping[str, Any]
    config_beside: Mapping[str, Any]

    @property
    def ranks(self) -> dict[str, int]:
        """Layer -> rank."""
        matches = ((_FACTOR.fullmatch(key), value) for key, value in self.state.items())
        return {match[1]: int(value.shape[0]) for match, value in matches if match and match[2] == "A"}

    def check(self, module: nn.Module, base: str | None = None) -> None:
        """Check that the file fits a module, before it is loaded.

        Args:
            module: The denoiser.
            base: Digest of the adapter that was fused into it, if any.

        Raises:
            WeightsError: It belongs to another architecture, holds values that are not finite, lacks layers that its
                configuration names, or was trained on top of another fused adapter.
        """
        self._check_base(base)
        self._check_fit(dict(module.named_modules()))
        self._check_layers([name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)])
        self._check_alpha()

    def _check_base(self, base: str | None) -> None:
        trained_on = str(self.config.get("base_model_name_or_path") or "")
        if trained_on.startswith(FUSED_PREFIX) and trained_on != base:
            raise unusable(
                self.path,
                f"it was trained on a model into which another adapter ({trained_on}) had been fused, and this model "
                f"has {base or 'none'}; take the backbone with which it was trained, or set fused_adapter to that one",
            )

    def _check_fit(self, layers: Mapping[str, nn.Module]) -> None:
        """Every pair of factors must belong to a linear layer of the module and have its sizes."""
        if not self.state:
            raise unusable(self.path, "it holds no tensors")
        if alphas := [key for key in self.state if key.endswith(".alpha")]:
            raise unusable(
                self.path,
                f"it states the scale as {len(alphas)} tensors such as {alphas[0]!r}, which this layout has not; "
                f"convert it, with lora_alpha in its metadata ({METADATA_KEY})",
            )
        for key, value in self.state.items():
            match = _FACTOR.fullmatch(key)
            layer = layers.get(match[1]) if match else None
            if match is None or not isinstance(layer, nn.Linear) or value.ndim != 2:
                raise unusable(self.path, f"it belongs to another architecture: {key!r} fits no linear layer here")
            side = (value.shape[1], layer.in_features) if match[2] == "A" else (value.shape[0], layer.out_features)
            if side[0] != side[1]:
                raise unusable(
                    self.path, f"it belongs to another architecture: {key!r} has size {side[0]}, the layer {side[1]}"
                )
            if not bool(value.isfinite().all()):
                raise unusable(self.path, f"{key!r} holds NaN or infinite values")

    def _check_layers(self, linear: list[str]) -> None:
        config = self.config or self.config_beside
        if config.get("target_modules"):
            promised = [name for name in linear if _is_target(config, name)]
            missing = [name for name in promised if name not in self.ranks]
            if missing:
                raise unusable(
                    self.path,
                    f"it lacks {len(missing)} of the {len(promised)} layers that its configuration names "
                    f"({', '.join(missing[:3])}, ...); it was cut, or saved in parts",
                )
            return
        endings = {_ending(name) for name in self.ranks}
        alike = [name for name in linear if _ending(name) in endings]
        missing = [name for name in alike if name not in self.ranks]
        if missing:
            log.warning(
                "adapter covers only some blocks, and has no configuration that says whether it is complete",
                file=str(self.path),
                layers=len(self.ranks),
                of_layers_alike=len(alike),
                without=missing[:3],
            )

    def _check_alpha(self) -> None:
        if "lora_alpha" in self.config:
            return
        ranks = sorted(set(self.ranks.values()))
        alpha = self.config_beside.get("lora_alpha")
        if alpha is not None and ranks != [alpha]:
            raise unusable(
                self.path,
                f"{PEFT_CONFIG} beside it states lora_alpha {alpha!r} for rank {ranks}, and the file itself no alpha, "
                f"so that diffusers would scale by another factor; save it with its configuration ({METADATA_KEY})",
            )
        if alpha is None:
            log.warning(
                "adapter states no alpha; its scale is the loader's default, which may not be that of its training",
                file=str(self.path),
                layers=len(self.ranks),
                rank=ranks,
                scale="lora_alpha 8 / rank" if self.config else 1.0,
                fix=f"save it with lora_alpha in its metadata ({METADATA_KEY})",
            )


def read_adapter_file(path: Path) -> AdapterFile:
    """Read a file of `save_adapter` or of diffusers' `save_lora_weights`.

    Raises:
        WeightsError: There is no such file, or it is damaged.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise unusable(path, "there is no such file")
    try:
        with safe_open(path, "pt") as file:
            state = {key.removeprefix("transformer."): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        config = _config(metadata.get(METADATA_KEY))
        beside = path.with_name(PEFT_CONFIG)
        return AdapterFile(path, state, config, _config(beside.read_text("utf-8") if beside.is_file() else None))
    except LOADING_ERRORS as error:
        raise unusable(path, error) from error


def _config(text: str | None) -> dict[str, Any]:
    content = {} if text is None else json.loads(text)
    if not isinstance(content, dict):
        raise TypeError(f"its configuration is no JSON object: {text!r:.80}")
    return {key.removeprefix("transformer."): value for key, value in content.items()}


def _is_target(config: Mapping[str, Any], name: str) -> bool:
    from peft.tuners.tuners_utils import check_target_module_exists

    return bool(check_target_module_exists(SimpleNamespace(**{key: config.get(key) for key in _MATCHED_BY}), name))


def _ending(name: str) -> str:
    """The part of a layer's name behind the number of its block."""
    return re.sub(r"^.*?\.\d+\.", "", name)


def unusable(path: Path, error: BaseException | str) -> WeightsError:
    """The error that a file cannot be loaded as an adapter, with the first line of its reason."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return WeightsError(
        f"Cannot load an adapter from {str(path)!r}: {reason.rstrip('.')}. Name a folder that save_adapter wrote for "
        "this backbone, and the checkpoint that it was trained on."
    )
