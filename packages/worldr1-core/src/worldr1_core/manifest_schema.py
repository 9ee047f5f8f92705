"""The JSON schema of a manifest, for whatever is installed: editors complete and check it as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from worldr1_core.component import load_component
from worldr1_core.errors import PluginError, WorldR1Error
from worldr1_core.manifest import (
    COMPONENT_KEYS,
    KIND_KEY,
    ComponentSpec,
    Manifest,
    RewardSpec,
    load_section,
    spec_model,
)
from worldr1_core.registry import Registry


def manifest_schema(registry: Registry) -> tuple[dict[str, Any], dict[str, str]]:
    """Build the schema.

    Args:
        registry: What is installed.

    Returns:
        The JSON schema (draft 2020-12), and `component -> reason` for those that cannot be imported here.
    """
    schema = Manifest.model_json_schema()
    properties, definitions = schema["properties"], schema.setdefault("$defs", {})
    failures: dict[str, str] = {}
    placements = _variants("placement", _outline(ComponentSpec), registry, definitions, failures)
    for key, kind in COMPONENT_KEYS.items():
        options = _variants(kind, _outline(spec_model(kind), placements), registry, definitions, failures)
        properties[key] = {
            "anyOf": [*options, {"type": "null"}],
            "description": properties[key]["description"],
            "default": None,
        }
    rewards = _variants("reward", _outline(RewardSpec, placements), registry, definitions, failures)
    properties["rewards"]["items"] = {"anyOf": rewards} if rewards else False
    properties.pop("sections", None)
    for name in registry.names("manifest section"):
        try:
            own = _own_schema(load_section(registry, name))
        except WorldR1Error as error:
            failures[f"manifest section {name}"] = str(error)
            continue
        properties[name] = _merge(own, f"section.{name}", definitions)
        for label, body in list(definitions.items()):
            if label.startswith(f"section.{name}.") and KIND_KEY in body:
                named = _variants(
                    body[KIND_KEY], body["properties"], registry, definitions, failures, prefix=f"{label}."
                )
                definitions[label] = {"title": label, "anyOf": named} if named else {"title": label, "not": {}}
    for unused in ("ComponentSpec", "PlacedSpec", "RewardSpec"):
        definitions.pop(unused, None)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema, failures


def _outline(spec: type[ComponentSpec], placements: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The schemas of the keys that stand beside the options of a component."""
    outline: dict[str, Any] = spec.model_json_schema()["properties"]
    if "placement" in outline:
        outline["placement"] = {**outline["placement"], "anyOf": [*placements, {"type": "null"}]}
    return outline


def _variants(
    kind: str,
    outline: dict[str, Any],
    registry: Registry,
    definitions: dict[str, Any],
    failures: dict[str, str],
    *,
    prefix: str = "",
) -> list[dict[str, Any]]:
    """One reference for every installed component of a kind, with its options beside the keys of `outline`."""
    variants = []
    for name in registry.names(kind):
        try:
            component = load_component(registry, kind, name)
            own = _own_schema(component.Config)
        except WorldR1Error as error:
            failures[f"{kind} {name}"] = str(error)
            continue
        own["properties"] = {
            **outline,
            "name": {"const": name, "description": _summary(component)},
            **own.get("properties", {}),
        }
        own["required"] = ["name", *own.get("required", [])]
        variants.append(_merge(own, f"{prefix}{kind.replace(' ', '-')}.{name}", definitions))
    return variants


def _own_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a plugin's model, with an object at its top level.

    Raises:
        PluginError: A field has a type that JSON cannot hold.
    """
    try:
        schema = model.model_json_schema()
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise PluginError(f"{model.__qualname__} has no JSON schema: {error}") from error
    if "$ref" in schema:  # a model that contains itself
        name = schema.pop("$ref").removeprefix("#/$defs/")
        schema = {**schema["$defs"][name], **schema}
    return schema


def _merge(own: dict[str, Any], label: str, definitions: dict[str, Any]) -> dict[str, str]:
    """Move a schema into `definitions` under `label`, its own definitions beside it; a reference to it."""
    nested = own.pop("$defs", {})
    references = {f"#/$defs/{name}": _reference(f"{label}.{name}") for name in nested}
    for name, body in nested.items():
        definitions[f"{label}.{name}"] = _redirect(body, references)
    definitions[label] = {**_redirect(own, references), "title": label}
    return {"$ref": _reference(label)}


def _reference(label: str) -> str:
    """A JSON pointer in a URI fragment, whatever characters a name holds."""
    return "#/$defs/" + quote(label.replace("~", "~0").replace("/", "~1"))


def _redirect(value: Any, references: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _redirect(item, references) for key, item in value.items()}
    if isinstance(value, list):
        return [_redirect(item, references) for item in value]
    return references.get(value, value) if isinstance(value, str) else value


def _summary(component: type) -> str:
    return (component.__doc__ or "").strip().split("\n")[0]
