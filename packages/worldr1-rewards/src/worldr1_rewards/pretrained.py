"""Loading of pretrained weights; every failure becomes one clear error.

Missing weights are never replaced by random ones: the transformers library fills parameters that a checkpoint lacks and
only logs it, so the loading report is checked here.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from worldr1_core.errors import MissingExtraError
from worldr1_core.weights_source import WeightsSource

LOADING_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    SafetensorError,
    pickle.UnpicklingError,
)
"""Exceptions of loaders for weights that are missing, unreachable, truncated, invalid, or of another architecture."""


def from_pretrained(factory: Any, source: WeightsSource, what: str, **options: Any) -> Any:
    """Call a transformers class's `from_pretrained`, without remote code.

    Args:
        factory: Class such as `AutoProcessor`.
        source: Hub id or folder.
        what: What is loaded, for the message.
        **options: Passed on.

    Raises:
        WeightsError: Nothing usable is there, or it cannot be reached.
        MissingExtraError: The model's own code needs a package that is absent.
    """
    name = str(source.path) if source.is_local else source.name
    if source.is_local and not source.path.is_dir():
        raise source.fail(what, "there is no such folder")
    if not source.is_local:
        # Transformers looks for some ten files, and the hub's client tries each for half a minute without a network.
        find_file(source, "config.json", what)
        options["revision"] = source.revision or "main"
    try:
        return factory.from_pretrained(
            name, trust_remote_code=False, local_files_only=source.local_files_only, **options
        )
    except ImportError as error:
        needed = " ".join(str(error).split())[:300]
        raise MissingExtraError(
            f"Loading {what} {source.name!r} needs a package that is not installed: {needed}"
        ) from error
    except LOADING_ERRORS as error:
        raise source.fail(what, error) from error


def model_from_pretrained(factory: Any, source: WeightsSource, what: str, **options: Any) -> torch.nn.Module:
    """Like `from_pretrained` for a model, refusing one whose checkpoint does not fill every parameter.

    Raises:
        WeightsError: As `from_pretrained`, or parameters are missing or of another shape.
    """
    model, report = from_pretrained(factory, source, what, output_loading_info=True, **options)
    absent = sorted(report["missing_keys"])
    if absent:
        raise source.fail(what, f"the checkpoint does not fit the model: it lacks {absent[:3]}")
    return model.eval().requires_grad_(False)


def model_from_tensors(
    factory: Any, model_config: Any, state: Mapping[str, Tensor], source: WeightsSource, what: str, **options: Any
) -> torch.nn.Module:
    """A transformers model of a given configuration, filled with exactly the given tensors.

    Parameters are never drawn first, so a large model needs its memory once.

    Raises:
        WeightsError: Keys or shapes differ from the model's.
    """
    try:
        model, report = factory.from_pretrained(
            None, config=model_config, state_dict=dict(state), output_loading_info=True, **options
        )
    except LOADING_ERRORS as error:
        raise source.fail(what, f"the checkpoint does not fit the model ({error})") from error
    absent, alien = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if absent or alien:
        raise source.fail(what, f"the checkpoint does not fit the model: it lacks {absent[:3]} and adds {alien[:3]}")
    return model.eval().requires_grad_(False)


def find_file(source: WeightsSource, filename: str, what: str) -> Path:
    """Path of one weights file: given itself, inside a given folder, or fetched from the hub.

    Raises:
        WeightsError: There is no such file, or it cannot be fetched.
    """
    if source.is_local:
        path = source.path / filename if source.path.is_dir() else source.path
        if not path.is_file():
            raise source.fail(what, f"there is no file {path.name!r}")
        return path
    from transformers.utils import cached_file

    try:
        found = cached_file(
            source.name, filename, revision=source.revision or "main", local_files_only=source.local_files_only
        )
    except LOADING_ERRORS as error:
        raise source.fail(what, error) from error
    assert found is not None, "cached_file raises where a file is absent"
    return Path(found)


def read_state_dict(path: Path, source: WeightsSource, what: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint file, `.safetensors` or a pickle restricted to tensors.

    A training checkpoint's `state_dict` or `model` entry is unwrapped.

    Raises:
        WeightsError: The file is damaged, holds something other than tensors, or would run code.
    """
    try:
        loaded: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except LOADING_ERRORS as error:
        raise source.fail(what, error) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise source.fail(what, f"{path.name} holds no dictionary of tensors")
    return dict(loaded)


def fill_strictly(
    module: torch.nn.Module, state: Mapping[str, Tensor], source: WeightsSource, what: str
) -> torch.nn.Module:
    """Give a module exactly the tensors of a checkpoint, in the module's own type.

    Raises:
        WeightsError: Keys or shapes differ.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise source.fail(what, f"the checkpoint does not fit the model: {detail[:300]}") from error
    return module.eval().requires_grad_(False)
