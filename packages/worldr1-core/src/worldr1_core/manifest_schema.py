"""The JSON schema of a manifest, for whatever is installed: editors complete and check it as it is written."""

from __future__ import annotations

from typing import Any

from worldr1_core.errors import WorldR1Error
from worldr1_core.manifest import COMPONENT_KEYS, ComponentSpec, Manifest, RewardSpec
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
    for key, kind in COMPONENT_KEYS.items():
        options = _variants(kind, ComponentSpec, registry, definitions, failures)
        properties[key] = {
            "anyOf": [*options, {"type": "null"}],
            "description": properties[key]["description"],
            "default": None,
        }
    rewards = _variants("reward", RewardSpec, registry, definitions, failures)
    properties["rewards"]["items"] = {"anyOf": rewards} if rewards else False
    properties.pop("sections", None)
    for name in registry.names("manifest section"):
        try:
            _merge(registry.load("manifest section", name).model_json_schema(), f"section {name}", definitions)
            properties[name] = {"$ref": f"#/$defs/section {name}"}
        except WorldR1Error as error:
            failures[f"section {name}"] = str(error)
    for unused in ("ComponentSpec", "RewardSpec"):
        definitions.pop(unused, None)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema, failures


def _variants(
    kind: str,
    spec: type[ComponentSpec],
    registry: Registry,
    definitions: dict[str, Any],
    failures: dict[str, str],
) -> list[dict[str, Any]]:
    variants = []
    for name in registry.names(kind):
        label = f"{kind} {name}"
        try:
            component = registry.load(kind, name)
        except WorldR1Error as error:
            failures[label] = str(error)
            continue
        own = component.Config.model_json_schema()
        outline = spec.model_json_schema()["properties"]
        own["properties"] = {
            **outline,
            "name": {"const": name, "description": _summary(component)},
            **own.get("properties", {}),
        }
        own["required"] = ["name", *own.get("required", [])]
        own["additionalProperties"] = False
        _merge(own, label, definitions)
        variants.append({"$ref": f"#/$defs/{label}"})
    return variants


def _merge(own: dict[str, Any], label: str, definitions: dict[str, Any]) -> None:
    nested = own.pop("$defs", {})
    renamed = {name: f"{label} {name}" for name in nested}
    for name, body in nested.items():
        definitions[renamed[name]] = _rename(body, renamed)
    definitions[label] = {**_rename(own, renamed), "title": label}


def _rename(value: Any, renamed: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: f"#/$defs/{renamed[item.removeprefix('#/$defs/')]}"
            if key == "$ref" and isinstance(item, str)
            else _rename(item, renamed)
            for key, item in value.items()
        }
    return [_rename(item, renamed) for item in value] if isinstance(value, list) else value


def _summary(component: type) -> str:
    return (component.__doc__ or "").strip().split("\n")[0]
