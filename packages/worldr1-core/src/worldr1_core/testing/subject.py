"""The component under test, however it was given, and the contracts that hold for every kind of component."""

from __future__ import annotations

import functools
import inspect
import json
import pickle
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch

from worldr1_core.component import Component, ComponentConfig
from worldr1_core.errors import UserError, describe_exception, shorten, with_article
from worldr1_core.testing.failures import UNAVAILABLE, CheckFailed, CheckSkipped, NotConstructed, checking
from worldr1_core.testing.report import Contract, as_mapping

C = TypeVar("C", bound=Component)

_NUMERIC_BOUNDS = ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"})


class Subject(Generic[C]):
    """A component to be checked.

    Args:
        given: A class, an instance, or a function without arguments that returns an instance.
        interface: The class it must derive from.
        options: Fields of `Config`, where a class is given.
        device: A second device to work on, beside the CPU.

    Raises:
        UserError: `given` is none of these, or options come with something that is no class.
    """

    def __init__(self, given: Any, interface: type[C], options: Mapping[str, Any] | None, device: str) -> None:
        self.options = as_mapping("options", options, "the name of an option to its value", "options={'scale': 0.5}")
        self.other_device = device
        self._interface = interface
        self._given = given
        self._not_constructed: tuple[str, Exception | None] | None = None
        if self.options and not isinstance(given, type):
            raise UserError(f"options go with a class, received {given!r} and {self.options!r}. Pass the class itself.")
        if isinstance(given, type) and not issubclass(given, interface):
            raise UserError(f"Expected a class derived from {interface.__name__}, received {given!r}.")
        if not isinstance(given, interface) and not callable(given):
            raise UserError(
                f"Expected {with_article(interface.__name__)} class, an instance, or a function that makes one, "
                f"received {given!r}."
            )

    @property
    def label(self) -> str:
        """Name of the subject in reports."""
        if isinstance(self._given, self._interface):
            return type(self._given).__name__
        return getattr(self._given, "__name__", repr(self._given))

    @functools.cached_property
    def component(self) -> C:
        """The instance that most checks share."""
        return self.fresh()

    def fresh(self) -> C:
        """A new instance on the CPU; the given one itself where an instance was given.

        Raises:
            NotConstructed: The class or function raised an exception, now or before, or returned something else.
        """
        if isinstance(self._given, self._interface):
            return self._given
        if self._not_constructed is None:
            made = self._construct()
            if made is not None:
                return made
        assert self._not_constructed is not None
        message, error = self._not_constructed
        raise NotConstructed(message) from error

    def _construct(self) -> C | None:
        call = f"{self.label}({', '.join(f'{name}={shorten(value)}' for name, value in self.options.items())})"
        try:
            made = self._given(**self.options)
        except (*UNAVAILABLE, unittest.SkipTest):
            raise
        except Exception as error:  # noqa: BLE001 - kept for `fresh`
            self._not_constructed = f"{call} raised {describe_exception(error)}", error
            return None
        if not isinstance(made, self._interface):
            expected = with_article(self._interface.__name__)
            self._not_constructed = f"{call} must return {expected}, received {shorten(made)}", None
            return None
        return made

    @property
    def modules(self) -> list[str]:
        """Modules of what was given, and of the classes that the component derives from; see `place_in`."""
        made = self.__dict__.get("component")
        classes = [*type(made).__mro__] if made is not None else getattr(self._given, "__mro__", [])
        given = self._given.func if isinstance(self._given, functools.partial) else self._given
        return [part.__module__ for part in (given, *classes) if hasattr(part, "__module__")]

    def on_other_device(self) -> C:
        """The same component on the second device.

        Raises:
            CheckSkipped: This machine has no such device.
        """
        kind = torch.device(self.other_device).type
        if kind == "cuda" and not torch.cuda.is_available():
            raise CheckSkipped(f"torch {torch.__version__} sees no CUDA device on this machine")
        return type(self.component)(self.component.config, device=self.other_device)


def _config_class(subject: Subject[Any]) -> None:
    config = type(subject.component).Config
    if not (isinstance(config, type) and issubclass(config, ComponentConfig)):
        raise CheckFailed(f"Config is {config!r}")
    if config.model_config.get("extra") != "forbid":
        raise CheckFailed(f"Config allows unknown keys: extra = {config.model_config.get('extra')!r}")
    if not config.model_config.get("frozen"):
        raise CheckFailed("Config can be changed after construction: frozen is off")


def _config_described(subject: Subject[Any]) -> None:
    fields = type(subject.component).Config.model_fields
    silent = [name for name, field in fields.items() if not (field.description or "").strip()]
    if silent:
        raise CheckFailed(f"fields without a description: {silent}")


def _config_bounded(subject: Subject[Any]) -> None:
    schema = type(subject.component).Config.model_json_schema()
    models = {"": schema, **schema.get("$defs", {})}
    unbounded = [
        f"{model}.{name}".lstrip(".")
        for model, body in models.items()
        for name, field in body.get("properties", {}).items()
        for number in _numbers(field)
        if not all(bounds & number.keys() for bounds in _NUMERIC_BOUNDS)
    ]
    if unbounded:
        raise CheckFailed(f"numbers without a lower and an upper bound: {sorted(set(unbounded))}")


def _numbers(schema: Any) -> Iterator[dict[str, Any]]:
    """Numeric parts of a field's JSON schema; choices (`enum`, `const`) bound themselves."""
    if isinstance(schema, list):
        for item in schema:
            yield from _numbers(item)
    elif isinstance(schema, dict):
        if schema.get("type") in ("integer", "number") and not schema.keys() & {"enum", "const"}:
            yield schema
        for key in ("anyOf", "oneOf", "allOf", "items", "prefixItems", "additionalProperties"):
            yield from _numbers(schema.get(key))


def _config_round_trip(subject: Subject[Any]) -> None:
    config = subject.component.config
    with checking("reading the config from its own JSON"):
        again = type(config).model_validate(json.loads(config.model_dump_json()))
    if again != config:
        raise CheckFailed(f"{config!r} became {again!r} on its way through JSON")


def _unknown_option(subject: Subject[Any]) -> None:
    cls = type(subject.component)
    options = {**subject.component.config.model_dump(), "no_such_option": 1}
    try:
        cls(**options)
    except UserError:
        return
    except Exception as error:
        raise CheckFailed(f"an unknown option raised {type(error).__name__}: {error}") from error
    raise CheckFailed("an unknown option was accepted in silence")


def _documented(subject: Subject[Any]) -> None:
    cls = type(subject.component)
    if not inspect.cleandoc(cls.__dict__.get("__doc__") or ""):
        raise CheckFailed(f"{cls.__name__} has no docstring of its own")


def _pickles(subject: Subject[Any]) -> None:
    component = subject.fresh()
    try:
        again = pickle.loads(pickle.dumps(component))
    except Exception as error:
        raise CheckFailed(f"{type(component).__name__} cannot be pickled: {type(error).__name__}: {error}") from error
    if again.config != component.config or again.device != component.device:
        raise CheckFailed(f"pickling changed config or device: {again.config!r} on {again.device!r}")


COMPONENT_CONTRACTS: list[Contract[Any]] = [
    Contract(
        "constructs",
        "without the component nothing else can be checked",
        "pass options={…} with which it can be constructed",
        lambda subject: subject.component,
    ),
    Contract(
        "config-class",
        "a typo in a manifest would be ignored, or options would change under way",
        "derive the nested Config from worldr1_core.component.ComponentConfig and leave its model_config alone",
        _config_class,
    ),
    Contract(
        "config-described",
        "`worldr1 schema` and editors show the description to whoever writes a manifest",
        "give every field Field(…, description='…')",
        _config_described,
    ),
    Contract(
        "config-bounded",
        "a value out of range would fail late, inside the work, or not at all",
        "give every number ge/gt and le/lt",
        _config_bounded,
    ),
    Contract(
        "config-round-trip",
        "configurations are stored beside results and must give the same component again",
        "keep to types that JSON can hold, with validators that accept what they return",
        _config_round_trip,
    ),
    Contract(
        "unknown-option",
        "a misspelt option would be ignored",
        "pass **options on to Component.__init__",
        _unknown_option,
    ),
    Contract(
        "documented",
        "`worldr1 schema` shows the first line, and users read the rest",
        "write a class docstring that says what it does",
        _documented,
    ),
    Contract(
        "pickles",
        "components are sent to worker processes",
        "define the class at module level and open files, clients and models on first use, not in __init__",
        _pickles,
    ),
]
"""Contracts of rewards, reconstructors and judges alike."""


def device_contract(compare: Callable[[Any, Any], None]) -> Contract[Any]:
    """The contract that the device is honoured; `compare(subject, component_on_device)` does the work."""

    def check(subject: Subject[Any]) -> None:
        with checking(f"on {subject.other_device!r}"):
            compare(subject, subject.on_other_device())

    return Contract(
        "device",
        "the manifest's `device` decides where work is done; clips arrive on the CPU",
        "move tensors to self.device, and answers back to the CPU",
        check,
    )
