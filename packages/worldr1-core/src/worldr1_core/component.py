"""The base of everything a manifest can name: a class with its own validated `Config`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from worldr1_core.errors import UserError, suggest


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
            lines = [describe_validation_issue(dict(issue), cls.Config.model_fields) for issue in error.errors()]
            raise UserError(f"Options of {cls.__name__}: " + "; ".join(lines)) from error


def describe_validation_issue(issue: Mapping[str, Any], allowed: Iterable[str] = ()) -> str:
    """One pydantic error as a sentence: key, what was received, what is allowed, and a suggestion for a typo.

    Args:
        issue: An entry of `ValidationError.errors()`.
        allowed: The keys that the validated model knows at its top level.
    """
    path = issue["loc"]
    key = ".".join(str(part) for part in path) or "(top level)"
    if issue["type"] == "extra_forbidden":
        known = sorted(allowed) if len(path) == 1 else []
        return f"unknown key {key!r}." + (
            f" Allowed: {known}.{suggest(str(path[-1]), known)}" if known else " Remove it."
        )
    if issue["type"] == "missing":
        return f"key {key!r} is missing."
    return f"{key!r}: {issue['msg']}, received {issue['input']!r}."
