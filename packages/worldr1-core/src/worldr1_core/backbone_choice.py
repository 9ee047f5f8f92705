"""Choice of a backbone by its name or by the path of a diffusers checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worldr1_core.component import Component, load_component
from worldr1_core.errors import UnknownNameError, UserError, WorldR1Error, describe_exception
from worldr1_core.manifest import ComponentSpec
from worldr1_core.registry import Registry
from worldr1_core.weights_source import WeightsSource

KIND = "backbone"

ReadJson = Callable[[WeightsSource, str], Mapping[str, Any]]
"""Reads a JSON file of a checkpoint, by its name in it; raises `WeightsError` if it is missing."""


def backbone_spec(
    name_or_path: str, registry: Registry, options: Mapping[str, Any] | None = None, *, read_json: ReadJson
) -> ComponentSpec:
    """The spec of a backbone.

    Args:
        name_or_path: A registered name, or a diffusers checkpoint: a local folder or the id of a repository on the hub.
            The checkpoint's `model_index.json` tells which registered backbone runs it.
        registry: Where names are looked up.
        options: Options of the backbone's `Config`.
        read_json: Reads a file of the checkpoint, locally or from the hub.

    Raises:
        UnknownNameError: It is neither a registered name nor the path of a checkpoint.
        UserError: No registered backbone, or more than one, runs the checkpoint's pipeline.
        WeightsError: The checkpoint has no readable `model_index.json`.
    """
    options = dict(options or {})
    try:
        name = registry.find(KIND, name_or_path).name
    except UnknownNameError as error:
        source = WeightsSource(name_or_path, options.get("revision"), bool(options.get("local_files_only")))
        if not (source.is_local or _is_hub_id(name_or_path)):
            raise UnknownNameError(
                f"{error} A folder or hub id (owner/name) of a diffusers checkpoint is allowed, too."
            ) from error
        name, options = _backbone_of(source, registry, read_json), {"path": str(source), **options}
    return ComponentSpec.model_validate({"name": name, **options})


def _is_hub_id(name: str) -> bool:
    owner, _, repository = name.partition("/")
    return bool(owner and repository) and "/" not in repository


def _backbone_of(source: WeightsSource, registry: Registry, read_json: ReadJson) -> str:
    """The name of the backbone for a checkpoint's pipeline class."""
    pipeline = read_json(source, "model_index.json").get("_class_name")
    found, broken = _backbones_by_name(registry)
    fitting = {name: kind for name, kind in found.items() if getattr(kind, "pipeline_class", None) == pipeline}
    own = {name: kind for name, kind in fitting.items() if _is_default_path(kind, source)}
    chosen = _most_general(own or fitting)
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise UserError(
            f"{source.name!r} holds a {pipeline!r}, which the backbones {sorted(chosen)} run. Name one of them, with "
            f"path={source.name!r}."
        )
    known = sorted({kind.pipeline_class for kind in found.values() if hasattr(kind, "pipeline_class")})
    raise UserError(
        f"{source.name!r} holds a {pipeline!r}, which no registered backbone runs. Pipelines that can be run: {known}. "
        "Install or register a backbone for it: a subclass of worldr1_backbones.DiffusersBackbone."
        + "".join(f" Not loaded: {reason}" for reason in broken)
    )


def _most_general(kinds: Mapping[str, Any]) -> list[str]:
    """Names of the classes that are not subclasses of another one here."""
    return [
        name
        for name, kind in kinds.items()
        if not any(other is not kind and issubclass(kind, other) for other in kinds.values())
    ]


def _backbones_by_name(registry: Registry) -> tuple[dict[str, Any], list[str]]:
    """The classes of all backbones that can be imported, and why others cannot."""
    found: dict[str, type[Component]] = {}
    broken = []
    for name in registry.names(KIND):
        try:
            found[name] = load_component(registry, KIND, name)
        except WorldR1Error as error:
            broken.append(f"{name!r} ({describe_exception(error)}).")
    return found, broken


def _is_default_path(kind: Any, source: WeightsSource) -> bool:
    """Return True if this checkpoint is the backbone's default, so that the backbone's default sizes fit it."""
    field = kind.Config.model_fields.get("path")
    default = None if field is None else field.default
    if not isinstance(default, str):
        return False
    return default == source.name or (source.is_local and Path(default).resolve() == source.path.resolve())
