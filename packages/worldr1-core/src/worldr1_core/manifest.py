"""The manifest: the one YAML file that says what a pipeline is made of.

Core owns the outline; every component owns the options beside its `name` (its `Config`), and packages own further
top-level sections through `worldr1_register_manifest_sections`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from worldr1_core.component import PLACED, describe_validation_issue, keys_at, load_component, validate_document
from worldr1_core.errors import ManifestError, PluginError, WorldR1Error, describe_exception, shorten
from worldr1_core.registry import Registry
from worldr1_core.yaml_source import KeyPath, YamlSource, parse_yaml

COMPONENT_KEYS = {
    "backbone": "backbone",
    "noise": "noise conditioner",
    "sampler": "sampler",
    "reconstructor": "reconstructor",
    "judge": "judge",
}
"""Top-level key that names one component -> its kind in the registry."""


KIND_KEY = "x-component-kind"
"""Key of a JSON schema that names the kind of component that a spec stands for."""


def _mark_kind(schema: dict[str, Any], model: type[ComponentSpec]) -> None:
    if model.kind is not None:
        schema[KIND_KEY] = model.kind


class ComponentSpec(BaseModel):
    """A component by name; every other key is an option of that component.

    Manifest sections of other packages name components with subclasses that set `kind`. Their names and options are
    then checked with the manifest, and are part of its JSON schema.

    Attributes:
        kind: Kind in the registry, e.g. `"objective"`.
    """

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_mark_kind)

    kind: ClassVar[str | None] = None

    name: str = Field(min_length=1, description="Registered name; `worldr1 plugins` lists them.")

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})


class PlacedSpec(ComponentSpec):
    """A component that can run in another process."""

    placement: ComponentSpec | None = Field(
        None, description="Where it runs, if not in this process: `worker` or `endpoint`, with options."
    )

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a placement that is not given, as manifests and records without placements do."""
        data: dict[str, Any] = handler(self)
        if self.placement is None:
            data.pop("placement", None)
        return data


class RewardSpec(PlacedSpec):
    """A reward by name, with its share in the total."""

    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="Factor in the total; 0 reports the score only.")


def spec_model(kind: str) -> type[ComponentSpec]:
    """The keys that stand beside the options of a component of this kind."""
    if kind == "reward":
        return RewardSpec
    return PlacedSpec if kind in PLACED else ComponentSpec


class Manifest(BaseModel):
    """Components of a pipeline. Sections that other packages register are kept in `sections`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = Field(description="Version of the manifest format.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="Torch device, or `auto` for CUDA where there is one.",
    )
    backbone: ComponentSpec | None = Field(None, description="Text-to-video model.")
    noise: ComponentSpec | None = Field(None, description="Noise conditioner.")
    sampler: ComponentSpec | None = Field(None, description="Stochastic scheduler: the policy.")
    reconstructor: PlacedSpec | None = Field(None, description="Lifts a clip to cameras and a 3D scene.")
    judge: PlacedSpec | None = Field(None, description="Vision-language model that grades images.")
    rewards: list[RewardSpec] = Field(default_factory=list, description="Rewards; the total is their weighted sum.")
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="Split name -> prompt file, one prompt per line, relative to the manifest.",
    )
    sections: dict[str, Any] = Field(default_factory=dict, exclude=True, description="Sections of other packages.")

    def components(self) -> Iterator[tuple[KeyPath, str, ComponentSpec]]:
        """Every named component as (key path, kind, spec)."""
        for key, kind in COMPONENT_KEYS.items():
            spec = getattr(self, key)
            if spec is not None:
                yield (key,), kind, spec
        for index, reward in enumerate(self.rewards):
            yield ("rewards", index), "reward", reward
        for path, spec in self._placed():
            if spec.placement is not None:
                yield (*path, "placement"), "placement", spec.placement
        for name, section in self.sections.items():
            yield from named_in_section((name,), section)

    def _placed(self) -> Iterator[tuple[KeyPath, PlacedSpec]]:
        for key in ("reconstructor", "judge"):
            spec = getattr(self, key)
            if spec is not None:
                yield (key,), spec
        for index, reward in enumerate(self.rewards):
            yield ("rewards", index), reward


@runtime_checkable
class ChecksManifest(Protocol):
    """A section that checks what it needs of the rest of the manifest."""

    def check_manifest(self, path: Path, manifest: Manifest, registry: Registry) -> None:
        """Check the manifest of this section; `worldr1 validate` calls it once every part is valid by itself.

        Args:
            path: Manifest file.
            manifest: Its content.
            registry: Where names are looked up.

        Raises:
            UserError: The parts do not fit together.
        """


def named_in_section(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str, ComponentSpec]]:
    """(key path, kind, spec) of every component that a section names with a `ComponentSpec` that has a `kind`.

    Args:
        path: Key path of `value`.
        value: The section, or a part of it.
    """
    if isinstance(value, ComponentSpec):
        if value.kind is not None:
            yield path, value.kind, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from named_in_section((*path, name), getattr(value, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from named_in_section((*path, index), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from named_in_section((*path, key), item)


def read_manifest_text(path: str | Path) -> str:
    """The text of a manifest file.

    Raises:
        ManifestError: The file cannot be read, or is not text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"Manifest {str(path)!r} is not a text file in UTF-8: {error}.") from error
    except (OSError, ValueError) as error:
        raise ManifestError(f"Manifest {str(path)!r} cannot be read: {error}.") from error


def load_manifest(path: str | Path, registry: Registry) -> Manifest:
    """Read and validate a manifest file, the options of its components included.

    Args:
        path: YAML file.
        registry: Where component names are looked up; named components are imported.

    Raises:
        ManifestError: The file cannot be read or is not valid; one line `file:line: key: problem` for every mistake.
    """
    return parse_manifest(read_manifest_text(path), registry, name=str(path))


def parse_manifest(text: str, registry: Registry, *, name: str = "manifest") -> Manifest:
    """Validate a manifest given as text (see `load_manifest`)."""
    return _validate(parse_yaml(text, name), registry)


def read_manifest_mapping(document: Mapping[str, Any], registry: Registry, *, name: str = "manifest") -> Manifest:
    """Validate a manifest given as plain Python values; `version` may be left out (see `load_manifest`).

    Raises:
        ManifestError: It holds values that YAML does not have, or is not valid.
    """
    try:
        data = json.loads(json.dumps({"version": 1, **document}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{name}: give plain values, as YAML has them: {error}.") from error
    return _validate(YamlSource(name, data, {}), registry)


def _validate(source: YamlSource, registry: Registry) -> Manifest:
    name = source.name
    if source.data is None:
        raise ManifestError(f"{name}: the manifest is empty. Start it with `version: 1`.")
    if not isinstance(source.data, dict):
        raise ManifestError(
            f"{name}: a manifest is a mapping that starts with `version: 1`, received {shorten(source.data)}."
        )
    data = dict(source.data)
    issues = list(source.issues)
    sections = _read_sections(data, registry, source, issues)
    _replace_old_names(data, registry)
    manifest: Manifest | None = None
    try:
        manifest = validate_document(Manifest, data).model_copy(update={"sections": sections})
    except ValidationError as error:
        allowed = {*Manifest.model_fields, *registry.names("manifest section")} - {"sections"}
        issues += [_locate_outline(source, data, dict(i), allowed) for i in error.errors()]
    issues += _check_components(data, registry, source)
    if issues or manifest is None:
        raise ManifestError("\n".join(issues))
    return manifest


def load_section(registry: Registry, name: str) -> type[BaseModel]:
    """Import the model of a section that a package registers.

    Raises:
        PluginError: It is not a pydantic model.
        UserError: The name cannot be found or loaded (see `Registry.load`).
    """
    model: Any = registry.load("manifest section", name)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        owner = registry.find("manifest section", name).owner
        raise PluginError(f"Manifest section {name!r} of {owner} must be a pydantic model class, received {model!r}.")
    return model


def _read_sections(data: dict[str, Any], registry: Registry, source: YamlSource, issues: list[str]) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    if "sections" in data:
        issues.append(
            f"{source.locate(('sections',))}: sections: write each section at the top level, under its own name."
        )
        del data["sections"]
    for key in [k for k in data if isinstance(k, str) and registry.has("manifest section", k)]:
        value = data.pop(key)
        try:
            name = registry.find("manifest section", key).name
            model = load_section(registry, name)
        except WorldR1Error as error:
            issues.append(f"{source.locate((key,))}: {key}: {error}")
            continue
        owner = f"manifest section {name!r} of {registry.find('manifest section', name).owner}"
        section, mistakes = _validate_part(model, value, (key,), owner, source)
        for path, kind, spec in named_in_section((key,), section):
            mistakes += _check_component(path, kind, spec.name, spec.options, registry, source)
        if name in sections:
            issues.append(f"{source.locate((key,))}: {key}: the section {name!r} stands twice. Keep one.")
        sections[name] = section
        issues += mistakes
    return sections


def _replace_old_names(data: dict[str, Any], registry: Registry) -> None:
    """Write the current name of every component in place of an alias, so that results have one name for it."""
    for key, kind in COMPONENT_KEYS.items():
        if key in data:
            data[key] = _with_current_name(data[key], kind, registry)
    if isinstance(data.get("rewards"), list):
        data["rewards"] = [_with_current_name(spec, "reward", registry) for spec in data["rewards"]]


def _with_current_name(spec: Any, kind: str, registry: Registry) -> Any:
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        return spec
    try:
        return {**spec, "name": registry.current_name(kind, spec["name"])}
    except WorldR1Error:  # two plugins claim the old name: `_check_components` reports it, with its line
        return spec


def _check_components(data: dict[str, Any], registry: Registry, source: YamlSource) -> list[str]:
    """Collect the mistakes in the components even if other parts are wrong, so that all are reported at once."""
    issues: list[str] = []
    seen: set[str] = set()
    for path, kind, name, options in _named_components(data):
        where = f"{source.locate((*path, 'name'))}: {'.'.join(map(str, path))}"
        if kind == "reward" and name in seen:
            issues.append(f"{where}: reward {name!r} stands twice. Keep one, and choose its weight.")
        seen.update({name} if kind == "reward" else ())
        issues += _check_component(path, kind, name, options, registry, source)
    return issues


def _check_component(
    path: KeyPath, kind: str, name: str, options: dict[str, Any], registry: Registry, source: YamlSource
) -> list[str]:
    try:
        component = load_component(registry, kind, name)
    except WorldR1Error as error:
        return [f"{source.locate((*path, 'name'))}: {'.'.join(map(str, path))}: {error}"]
    owner = f"{kind} {name!r} of {registry.find(kind, name).owner}"
    return _validate_part(component.Config, options, path, owner, source)[1]


def _named_components(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str, str, dict[str, Any]]]:
    """(key path, kind, name, options) of every component whose name can be read."""
    rewards = data.get("rewards")
    places: list[tuple[KeyPath, str, Any]] = [((key,), kind, data.get(key)) for key, kind in COMPONENT_KEYS.items()]
    places += [(("rewards", i), "reward", item) for i, item in enumerate(rewards if isinstance(rewards, list) else [])]
    places += [
        ((*path, "placement"), "placement", value["placement"])
        for path, kind, value in places
        if kind in PLACED and isinstance(value, dict) and value.get("placement") is not None
    ]
    for path, kind, value in places:
        if isinstance(value, dict) and isinstance(value.get("name"), str) and value["name"]:
            outline = spec_model(kind).model_fields
            yield path, kind, value["name"], {key: option for key, option in value.items() if key not in outline}


def _validate_part(
    model: type[BaseModel], value: Any, path: KeyPath, owner: str, source: YamlSource
) -> tuple[BaseModel | None, list[str]]:
    """The validated model of a plugin, or the mistakes; a validator that fails counts as a mistake."""
    try:
        return validate_document(model, value), []
    except ValidationError as error:
        return None, [
            _locate(source, (*path, *i["loc"]), dict(i), keys_at(model, i["loc"]), skip=len(path))
            for i in error.errors()
        ]
    except Exception as error:  # noqa: BLE001 - a third party's validator; its failure is reported, with its owner
        where = f"{source.locate(path)}: {'.'.join(map(str, path))}"
        return None, [f"{where}: checking {owner} failed: {describe_exception(error)}."]


def _locate_outline(source: YamlSource, data: dict[str, Any], issue: dict[str, Any], allowed: Iterable[str]) -> str:
    path: KeyPath = issue["loc"]
    if issue["type"] == "model_type" and path and path[0] in {*COMPONENT_KEYS, "rewards"}:
        key = ".".join(map(str, path))
        return f"{source.locate(path)}: {key}: write `{{name: …}}` and its options, received {shorten(issue['input'])}."
    if path == ("version",) and "version" in data:
        return f"{source.locate(path)}: 'version': this release reads version 1, received {shorten(issue['input'])}."
    return _locate(source, path, issue, allowed if len(path) == 1 else keys_at(Manifest, path))


def _locate(source: YamlSource, path: KeyPath, issue: dict[str, Any], allowed: Iterable[str], *, skip: int = 0) -> str:
    parent = ".".join(map(str, path[:skip]))
    sentence = describe_validation_issue({**issue, "loc": path[skip:]}, allowed)
    return f"{source.locate(path)}: {parent + ': ' if parent else ''}{sentence}"
