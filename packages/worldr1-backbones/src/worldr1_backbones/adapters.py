"""Low-rank adapters on a pipeline's denoisers, in the layout that diffusers reads and writes."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worldr1_backbones.adapter_files import FUSED_PREFIX, read_adapter_file, unusable
from worldr1_backbones.loading import LOADING_ERRORS
from worldr1_core.backbone import AdapterSpec
from worldr1_core.errors import UserError
from worldr1_core.files import atomic_folder
from worldr1_core.log import get_logger
from worldr1_core.seeding import derive_seed

log = get_logger(__name__)

ADAPTER_NAME = "default"
"""Name of the adapter inside peft; the one that diffusers' own training scripts use."""

WEIGHTS = "pytorch_lora_weights{suffix}.safetensors"


def weights_name(denoiser: str) -> str:
    """File of one denoiser's adapter: `load_lora_weights(folder)` picks the first denoiser's by itself."""
    return WEIGHTS.format(suffix="" if denoiser == "transformer" else f"_{denoiser}")


def add_adapter(denoisers: Mapping[str, nn.Module], spec: AdapterSpec, default_targets: Sequence[str]) -> None:
    """Put a fresh adapter on every denoiser: float32, trainable, without effect before the first update.

    LoRA is Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021; its B is zero at the start.

    Args:
        denoisers: Frozen modules by name.
        spec: Rank, scale, targets and seed.
        default_targets: Targets where the spec names none; those that a module lacks are left out.

    Raises:
        UserError: A module has an adapter already, or a target matches no layer.
    """
    from peft import LoraConfig

    if has_adapter(denoisers):
        raise UserError("There is an adapter already. Load the backbone again to start from a fresh one.")
    targets = {name: _matched_targets(module, spec, default_targets) for name, module in denoisers.items()}
    _require_matches(denoisers, spec, default_targets, targets)
    for name, module in denoisers.items():
        config = LoraConfig(
            r=spec.rank, lora_alpha=spec.alpha, target_modules=targets[name], lora_dropout=0.0, init_lora_weights=True
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(spec.seed, "adapter", name))
            peft_module: Any = module
            peft_module.add_adapter(config, adapter_name=ADAPTER_NAME)
        _to_float32(module)
        adapted = sum(1 for _ in _adapter_layers(module))
        linear = sum(isinstance(layer, nn.Linear) for layer in module.modules()) - 2 * adapted
        log.info(
            "adapter added", denoiser=name, rank=spec.rank, targets=targets[name], layers=adapted, of_linear=linear
        )


def _matched_targets(module: nn.Module, spec: AdapterSpec, default: Sequence[str]) -> list[str]:
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    wanted = default if spec.target_modules is None else spec.target_modules
    return sorted({target for target in wanted if any(_matches(name, target) for name in names)})


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _require_matches(
    denoisers: Mapping[str, nn.Module], spec: AdapterSpec, default: Sequence[str], found: Mapping[str, list[str]]
) -> None:
    wanted = list(default) if spec.target_modules is None else list(spec.target_modules)
    for name, module in denoisers.items():
        missed = [target for target in wanted if target not in found[name]]
        if found[name] and (spec.target_modules is None or not missed):
            continue
        layers = (n for n, layer in module.named_modules() if isinstance(layer, nn.Linear))
        endings = sorted({re.sub(r"^.*?\.\d+\.", "", n) for n in layers})
        raise UserError(
            f"target_modules {missed!r} match no linear layer of {name!r}. Its layers end in: {endings[:40]}."
        )


def has_adapter(denoisers: Mapping[str, nn.Module]) -> bool:
    """Return True if any denoiser has an adapter."""
    return any(True for module in denoisers.values() for _ in _adapter_layers(module))


def _adapter_layers(module: nn.Module) -> Iterator[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return (layer for layer in module.modules() if isinstance(layer, BaseTunerLayer))


def _adapter_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if f".{ADAPTER_NAME}." in name)


def _to_float32(module: nn.Module) -> None:
    for _, parameter in _adapter_parameters(module):
        parameter.data = parameter.data.float().clone(memory_format=torch.contiguous_format)


@contextlib.contextmanager
def adapters_disabled(denoisers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Disable the adapter of all denoisers within the block."""
    layers = [layer for module in denoisers.values() for layer in _adapter_layers(module)]
    flags = [(p, p.requires_grad) for module in denoisers.values() for _, p in _adapter_parameters(module)]
    enabled = [layer for layer in layers if not layer.disable_adapters]
    try:
        for layer in enabled:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in enabled:
            layer.enable_adapters(True)
        for parameter, flag in flags:  # peft freezes what it disables, and trains what it enables
            parameter.requires_grad_(flag)


def save_adapter(
    pipeline_class: Any, denoisers: Mapping[str, nn.Module], folder: str | Path, *, base: str | None = None
) -> None:
    """Write the adapter, with its scale, as `pipeline.load_lora_weights(folder)` reads it, as a whole or not at all.

    A second denoiser is written to a separate file:
    `pipeline.load_lora_weights(folder, weight_name=weights_name("transformer_2"), load_into_transformer_2=True)`.

    Args:
        pipeline_class: Class of the pipeline that holds the denoisers.
        denoisers: Modules by name.
        folder: Is made, or replaced.
        base: What `fuse_adapter` returned, if an adapter was fused before.

    Raises:
        UserError: There is no adapter.
        OutputError: The folder cannot be written.
    """
    from peft.utils import get_peft_model_state_dict

    if not has_adapter(denoisers):
        raise UserError("There is no adapter to save. Add one with add_adapter, or load one.")
    with atomic_folder(folder) as temporary:
        for name, module in denoisers.items():
            state = get_peft_model_state_dict(module, adapter_name=ADAPTER_NAME, save_embedding_layers=False)
            pipeline_class.save_lora_weights(
                str(temporary),
                transformer_lora_layers={key: value.detach().cpu().contiguous() for key, value in state.items()},
                weight_name=weights_name(name),
                transformer_lora_adapter_metadata={**_metadata(module), "base_model_name_or_path": base},
            )


def _metadata(module: Any) -> dict[str, Any]:
    """The adapter's configuration as plain data; sets, which have another order in every process, are sorted."""
    config = _peft_config(module)
    document: dict[str, Any] = config.to_dict()
    return {key: sorted(value) if isinstance(getattr(config, key), set) else value for key, value in document.items()}


def _peft_config(module: Any) -> Any:
    return module.peft_config[ADAPTER_NAME]


def load_adapter(
    pipeline: Any,
    denoisers: Mapping[str, nn.Module],
    folder: str | Path,
    *,
    trainable: bool = False,
    base: str | None = None,
) -> None:
    """Read an adapter from a folder in diffusers' LoRA layout; it is on, in float32.

    Args:
        pipeline: The pipeline that holds the denoisers.
        denoisers: Modules by name.
        folder: Folder that `save_adapter` wrote.
        trainable: Whether it is trained further.
        base: What `fuse_adapter` returned, if an adapter was fused before.

    Raises:
        UserError: There is an adapter already.
        WeightsError: There is none in the folder, it is damaged, lacks layers that its configuration names, belongs
            to another architecture, or was trained after another adapter had been fused.
    """
    if has_adapter(denoisers):
        raise UserError("There is an adapter already. Load the backbone again to add another one.")
    files = {name: Path(folder).expanduser() / weights_name(name) for name in denoisers}
    contents = {name: read_adapter_file(path) for name, path in files.items()}
    for name, module in denoisers.items():
        contents[name].check(module, base)
    for name, module in denoisers.items():
        second = {} if name == "transformer" else {f"load_into_{name}": True}
        path = files[name]
        try:
            pipeline.load_lora_weights(
                str(path.parent), weight_name=path.name, adapter_name=ADAPTER_NAME, local_files_only=True, **second
            )
        except LOADING_ERRORS as error:
            raise unusable(path, error) from error
        _to_float32(module)
        _check_filled(module, contents[name].state, path)
        for _, parameter in _adapter_parameters(module):
            parameter.requires_grad_(trainable)


def fuse_adapter(pipeline: Any, denoisers: Mapping[str, nn.Module], folder: str | Path) -> str:
    """Add an adapter to the weights for good, so that another one can be put on them.

    Args:
        pipeline: The pipeline that holds the denoisers.
        denoisers: Modules by name.
        folder: Folder in diffusers' LoRA layout.

    Returns:
        A digest of the adapter, which says what later adapters are trained on.

    Raises:
        UserError: There is an adapter already.
        WeightsError: As of `load_adapter`, or the sum is not finite.
    """
    load_adapter(pipeline, denoisers, folder)
    digest = hashlib.sha256()
    for name, module in denoisers.items():
        for key, factor in sorted(_adapter_parameters(module)):
            digest.update(f"{name}.{key}".encode() + factor.detach().cpu().numpy().tobytes())
        fused: Any = module
        try:
            fused.fuse_lora(safe_fusing=True, adapter_names=[ADAPTER_NAME])
        except ValueError as error:
            raise unusable(Path(folder), error) from error
        fused.unload_lora()
    return FUSED_PREFIX + digest.hexdigest()[:16]


def _check_filled(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Compare the module with the file after loading, because diffusers only logs weights that it could not place."""
    loaded = {name.replace(f".{ADAPTER_NAME}.", "."): p for name, p in _adapter_parameters(module)}
    for key, value in state.items():
        if key not in loaded:
            raise unusable(path, f"{key!r} was not taken over")
        loaded[key].data.copy_(value)  # a loader may have rounded it to the pipeline's dtype
    if absent := sorted(loaded.keys() - state.keys()):
        raise unusable(path, f"it lacks {absent[:3]}")


def set_gradient_checkpointing(denoisers: Mapping[str, Any], enabled: bool) -> None:
    """Switch diffusers' gradient checkpointing of every denoiser.

    Raises:
        UserError: A denoiser has none.
    """
    for name, module in denoisers.items():
        try:
            if enabled:
                module.enable_gradient_checkpointing()
            else:
                module.disable_gradient_checkpointing()
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"{name!r} ({type(module).__name__}) has no gradient checkpointing: {error} Switch it off."
            ) from error
