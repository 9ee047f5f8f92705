"""The spec of a component that is given in Python as a registered name or as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from worldr1_core.component import describe_validation_error
from worldr1_core.errors import UserError, shorten, with_article
from worldr1_core.manifest import ComponentSpec
from worldr1_core.registry import Registry

S = TypeVar("S", bound=ComponentSpec)


def component_spec(
    choice: str | Mapping[str, Any] | ComponentSpec,
    kind: str,
    registry: Registry,
    model: type[S] = ComponentSpec,  # type: ignore[assignment]
) -> S:
    """The spec of a component, under its current name.

    Args:
        choice: A registered name, or a mapping with `name` and options.
        kind: Its kind in the registry.
        registry: Where names are looked up.
        model: `ComponentSpec`, or one with further keys, such as a weight.

    Raises:
        UnknownNameError: Nothing registers the name.
        UserError: The mapping has no name, or a key has another form.
    """
    given = {"name": choice} if isinstance(choice, str) else dict(choice)
    try:
        spec = model.model_validate(given, strict=True)
    except ValidationError as error:
        issues = describe_validation_error(error)
        raise UserError(
            f"{with_article(kind).capitalize()} given as a mapping needs a name, received {shorten(choice)}: {issues}"
        ) from error
    return spec.model_copy(update={"name": registry.find(kind, spec.name).name})
