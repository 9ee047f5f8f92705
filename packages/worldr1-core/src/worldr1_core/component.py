"""Base class of the components that a manifest can name, with a validated `Config`."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from worldr1_core.errors import PluginError, UserError, shorten, suggest
from worldr1_core.registry import Registry

M = TypeVar("M", bound=BaseModel)

INTERFACES: Mapping[str, str] = {
    "reward": "worldr1_core.reward:Reward",
    "reconstructor": "worldr1_core.reconstructor:Reconstructor",
    "judge": "worldr1_core.judge:Judge",
    "backbone": "worldr1_core.backbone:Backbone",
    "noise conditioner": "worldr1_core.noise:NoiseConditioner",
    "sampler": "worldr1_core.sampler:Sampler",
    "objective": "worldr1_core.objective:Objective",
    "placement": "worldr1_core.placement:Placement",
}
"""Kind -> the interface that its components derive from."""
PLACED = ("reward", "reconstructor", "judge")
"""Kinds of components that can have a placement."""


class ComponentConfig(BaseModel):
    """Options of a component; unknown keys are errors, every field is bounded and described."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Component:
    """A reward, reconstructor, judge, backbone, ... that a manifest composes by name.

    Subclasses nest a `Config` that derives from `ComponentConfig`.

    Args:
        config: Validated options; the class's defaults when left out.
        device: Torch device string on which the component works, e.g. `"cpu"` or `"cuda:0"`.
        **options: The fields of `Config`, instead of `config`.

    Raises:
        UserError: An option is unknown or out of its range, or both `config` and options are given.
    """

    Config: ClassVar[type[ComponentConfig]] = ComponentConfig

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        if config is not None and options:
            raise UserError(
                f"{type(self).__name__} takes a config or options, not both; received {sorted(options)!r} too."
            )
        self.config = self._validate(options) if config is None else config
        if not isinstance(self.config, self.Config):
            raise UserError(
                f"{type(self).__name__} needs a {self.Config.__qualname__}, received {config!r}. "
                f"Pass {type(self).__name__}({type(self).__name__}.Config(...)) or plain keyword options."
            )
        self.device = device

    @classmethod
    def _validate(cls, options: dict[str, Any]) -> ComponentConfig:
        try:
            return cls.Config.model_validate(options)
        except ValidationError as error:
            issues = describe_validation_error(error, cls.Config)
            raise UserError(f"Options of {cls.__name__}: {issues}") from error


def load_component(registry: Registry, kind: str, name: str) -> type[Component]:
    """Import a component's class and check that a manifest can use it.

    Raises:
        PluginError: See `check_component`.
        UserError: The name cannot be found or loaded (see `Registry.load`).
    """
    entry = registry.find(kind, name)
    return check_component(kind, entry.name, entry.load(), f"{kind.capitalize()} {entry.name!r} of {entry.owner}")


def check_component(kind: str, name: str, loaded: Any, label: str) -> type[Component]:
    """Check that a manifest can use a component; a function that is registered as a reward becomes a class.

    Args:
        kind: A key of `INTERFACES`.
        name: Name that it is registered under.
        loaded: The component.
        label: How messages call it.

    Raises:
        PluginError: It is not a class of its kind's interface, or its `Config` is not a `ComponentConfig` or claims a
            key that the manifest needs.
    """
    if kind == "reward" and inspect.isroutine(loaded):
        from worldr1_core.reward_function import function_reward_class

        return function_reward_class(loaded, name)
    module, _, attribute = INTERFACES[kind].partition(":")
    interface = getattr(importlib.import_module(module), attribute)
    if not (isinstance(loaded, type) and issubclass(loaded, interface)):
        raise PluginError(f"{label} must be a class derived from {module}.{attribute}, received {loaded!r}.")
    component: type[Component] = loaded
    config: Any = component.Config
    if not (isinstance(config, type) and issubclass(config, ComponentConfig)):
        raise PluginError(f"{label}: its Config must derive from {__name__}.ComponentConfig, received {config!r}.")
    taken = {
        "name",
        "config",
        "device",
        *(("weight",) if kind in ("reward", "objective") else ()),
        *(("placement",) if kind in PLACED else ()),
    } & config.model_fields.keys()
    if taken:
        raise PluginError(f"{label}: its Config must not have the fields {sorted(taken)}, which the manifest needs.")
    return component


def validate_document(model: type[M], data: Any) -> M:
    """Validate plain YAML values as the JSON schema of `model` would: `"8"` is no number and `true` is not 1.

    Raises:
        ValidationError: pydantic's.
    """
    return model.model_validate_json(json.dumps(data), strict=True)


def describe_validation_error(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Describe all issues of a pydantic error in one line.

    Args:
        error: The error.
        model: The validated model, whose keys are named where one is unknown.
    """
    return "; ".join(
        describe_validation_issue(dict(issue), () if model is None else keys_at(model, issue["loc"]))
        for issue in error.errors()
    )


def keys_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """List the keys that may stand in place of an unknown one.

    Args:
        model: The validated model.
        path: Key path of the unknown key in it, as pydantic gives it.
    """
    models = [model]
    for part in path[:-1]:
        fields = [owner.model_fields[part] for owner in models if part in owner.model_fields]
        if fields:  # else the index of a list, or the name that pydantic gives to a choice
            models = [found for field in fields for found in _models_in(field.annotation)]
    closed = [owner for owner in models if owner.model_config.get("extra") == "forbid"]
    return sorted({key for owner in closed for key in owner.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation such as `list[A | B] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def describe_validation_issue(issue: Mapping[str, Any], allowed: Iterable[str] = ()) -> str:
    """One pydantic error as a sentence: key, what was received, what is allowed, and a suggestion for a typo.

    Args:
        issue: An entry of `ValidationError.errors()`.
        allowed: The keys that may stand in place of an unknown one.
    """
    path = issue["loc"]
    key = ".".join(str(part) for part in path) or "(top level)"
    if issue["type"] == "extra_forbidden":
        known = sorted(allowed)
        return f"unknown key {key!r}." + (
            f" Allowed: {known}.{suggest(str(path[-1]), known)}" if known else " Remove it."
        )
    if issue["type"] == "missing":
        return f"key {key!r} is missing."
    message = issue["msg"].removeprefix("Value error, ")  # pydantic's prefix of a validator's own message
    sentence = message if not path and message != issue["msg"] else f"{key!r}: {message}"
    return f"{sentence}, received {shorten(issue['input'])}."
