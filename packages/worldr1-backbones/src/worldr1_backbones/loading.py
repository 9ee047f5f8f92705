"""Loading of released pipelines; every failure becomes one clear error.

Diffusers and transformers fill parameters that a checkpoint lacks with random numbers and only log it. Here every model
of a pipeline is loaded with its report, and a parameter that did not come from the checkpoint is an error.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from worldr1_core.errors import WeightsError
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
    NotImplementedError,
    SafetensorError,
)
"""Exceptions of loaders for weights that are missing, unreachable, truncated, or of another architecture."""

MIN_WORDS = 4
"""Fewest words of a usable tokenizer, besides its special tokens; one without its files has fewer (T5: one)."""


def read_json(source: WeightsSource, filename: str) -> dict[str, Any]:
    """One configuration file of a pipeline; fetched from the hub if need be.

    Args:
        source: Where the pipeline is.
        filename: E.g. `"model_index.json"` or `"vae/config.json"`.

    Raises:
        WeightsError: It is missing, unreachable, or not a JSON object.
    """
    try:
        if source.is_local:
            if not source.path.is_dir():
                raise FileNotFoundError("there is no such folder")
            path = source.path / filename
            if not path.is_file():
                raise FileNotFoundError(f"there is no file {filename!r}")
        else:
            from transformers.utils import cached_file

            path = Path(str(cached_file(source.name, filename, **source.where)))
        content = json.loads(path.read_text(encoding="utf-8"))
    except LOADING_ERRORS as error:
        raise source.fail(filename, error) from error
    if not isinstance(content, dict):
        raise source.fail(filename, f"it holds {type(content).__name__}, expected a JSON object")
    return content


def read_index(source: WeightsSource, pipeline_class: str) -> dict[str, Any]:
    """A pipeline's `model_index.json`, whose pipeline must be the expected one.

    Raises:
        WeightsError: As `read_json`, or it names another pipeline class.
    """
    index = read_json(source, "model_index.json")
    named = index.get("_class_name")
    if named != pipeline_class:
        raise WeightsError(
            f"{source.name!r} holds a {named!r}, and this backbone needs a {pipeline_class!r} (model_index.json, "
            "_class_name). Name a checkpoint of that architecture, or choose the backbone that fits this one."
        )
    return index


def component_class(source: WeightsSource, index: Mapping[str, Any], name: str) -> Any:
    """The class of a pipeline's component, as `model_index.json` names it.

    Raises:
        WeightsError: The component is not there, or its class cannot be imported.
    """
    entry = index.get(name)
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
        raise source.fail(name, f"model_index.json says {entry!r}, expected its library and class")
    library, attribute = entry
    try:
        return getattr(importlib.import_module(library), attribute)
    except (ImportError, AttributeError) as error:
        raise source.fail(name, f"class {attribute!r} of {library!r} cannot be imported ({error})") from error


def component_config(source: WeightsSource, index: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Configuration of a model of the pipeline, without its weights; defaults of its class are filled in.

    Raises:
        WeightsError: It is missing.
    """
    signature = inspect.signature(component_class(source, index, name).__init__)
    defaults = {key: p.default for key, p in signature.parameters.items() if p.default is not inspect.Parameter.empty}
    return {**defaults, **read_json(source, f"{name}/config.json")}


def load_scheduler(source: WeightsSource, index: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """The checkpoint's scheduler, with some options changed; needs no weights.

    Raises:
        WeightsError: It is missing.
    """
    config = read_json(source, "scheduler/scheduler_config.json")
    try:
        return component_class(source, index, "scheduler").from_config(config, **changes)
    except LOADING_ERRORS as error:
        raise source.fail("scheduler", error) from error


def load_pipeline(
    source: WeightsSource, index: Mapping[str, Any], dtype: torch.dtype, dtypes: Mapping[str, torch.dtype]
) -> Any:
    """A pipeline with all its weights, in evaluation mode, frozen, on the CPU.

    Args:
        source: Where it is.
        index: Its `model_index.json`.
        dtype: Type of the models' weights.
        dtypes: Other types of some models.

    Raises:
        WeightsError: A file is absent, damaged, or does not fit, or the hub cannot be reached.
    """
    import diffusers

    models = {
        name: _load_model(source, index, name, dtypes.get(name, dtype))
        for name, entry in index.items()
        if isinstance(entry, list) and entry[0] is not None and _is_model(source, index, name)
    }
    pipeline_class = getattr(diffusers, index["_class_name"])
    try:
        pipeline = pipeline_class.from_pretrained(str(source), **models, **source.where)
    except LOADING_ERRORS as error:
        raise source.fail(index["_class_name"], error) from error
    for name, component in pipeline.components.items():
        if name.startswith("tokenizer") and component is not None:
            _check_vocabulary(source, name, component)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_vocabulary(source: WeightsSource, name: str, tokenizer: Any) -> None:
    """Refuse an empty tokenizer, which transformers makes without a warning if its files are missing."""
    words = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    if len(words) < MIN_WORDS:
        raise source.fail(name, f"it has a vocabulary of {len(words)} words; its files are absent or damaged")


def _is_model(source: WeightsSource, index: Mapping[str, Any], name: str) -> bool:
    found = component_class(source, index, name)
    return isinstance(found, type) and issubclass(found, nn.Module)


def _load_model(source: WeightsSource, index: Mapping[str, Any], name: str, dtype: torch.dtype) -> nn.Module:
    model_class = component_class(source, index, name)
    try:
        model, report = model_class.from_pretrained(
            str(source), subfolder=name, output_loading_info=True, **{_dtype_name(model_class): dtype}, **source.where
        )
    except LOADING_ERRORS as error:
        raise source.fail(name, error) from error
    absent = sorted(report["missing_keys"])
    shapes = sorted(str(key) for key in report["mismatched_keys"])
    if absent or shapes:
        raise source.fail(
            name,
            f"the checkpoint does not fill the {model_class.__name__}: it lacks {absent[:3]} "
            f"and has other shapes of {shapes[:3]}",
        )
    model.eval().requires_grad_(False)
    return model


def _dtype_name(model_class: type) -> str:
    """Diffusers calls it `torch_dtype` before 0.42; from then on, as transformers does, `dtype`."""
    import diffusers

    old = tuple(int(part) for part in diffusers.__version__.split(".")[:2]) < (0, 42)
    return "torch_dtype" if old and issubclass(model_class, diffusers.ModelMixin) else "dtype"
