"""The manifest: the one YAML file that says what a pipeline is made of.

Core owns the outline; every component owns the options beside its `name` (its `Config`), and packages own further
top-level sections through `worldr1_register_manifest_sections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worldr1_core.component import describe_validation_issue
from worldr1_core.errors import ManifestError, WorldR1Error
from worldr1_core.registry import Registry
from worldr1_core.yaml_source import KeyPath, YamlSource, parse_yaml

COMPONENT_KEYS = {
    "backbone": "backbone",
    "noise": "noise conditioner",
    "reconstructor": "reconstructor",
    "judge": "judge",
}
"""Top-level key that names one component -> its kind in the registry."""


class ComponentSpec(BaseModel):
    """A component by name; every other key is an option of that component."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, description="Registered name; `worldr1 plugins` lists them.")

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})


class RewardSpec(ComponentSpec):
    """A reward by name, with its share in the total."""

    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="Factor of this reward in the total.")


class Manifest(BaseModel):
    """What a pipeline is made of. Sections that other packages register are kept in `sections`."""

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
    reconstructor: ComponentSpec | None = Field(None, description="Lifts a clip to cameras and a 3D scene.")
    judge: ComponentSpec | None = Field(None, description="Vision-language model that grades images.")
    rewards: list[RewardSpec] = Field(default_factory=list, description="Rewards; the total is their weighted sum.")
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="Split name -> prompt file, one prompt a line, relative to the manifest.",
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


def load_manifest(path: str | Path, registry: Registry) -> Manifest:
    """Read and validate a manifest file, the options of its components included.

    Args:
        path: YAML file.
        registry: Where component names are looked up; named components are imported.

    Raises:
        ManifestError: The file cannot be read or is not valid; one line `file:line: key: problem` for every mistake.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"Manifest {str(path)!r} cannot be read: {error}.") from error
    return parse_manifest(text, registry, name=str(path))


def parse_manifest(text: str, registry: Registry, *, name: str = "manifest") -> Manifest:
    """Validate a manifest given as text (see `load_manifest`)."""
    source = parse_yaml(text, name)
    if not isinstance(source.data, dict):
        raise ManifestError(f"{name}: a manifest is a mapping that starts with `version: 1`, received {source.data!r}.")
    data = dict(source.data)
    issues: list[str] = []
    sections = _read_sections(data, registry, source, issues)
    manifest: Manifest | None = None
    try:
        manifest = Manifest.model_validate({**data, "sections": sections})
    except ValidationError as error:
        allowed = {*Manifest.model_fields, *registry.names("manifest section")} - {"sections"}
        issues += [_locate(source, i["loc"], dict(i), allowed) for i in error.errors()]
    if manifest is not None:
        issues += _check_components(manifest, registry, source)
    if issues or manifest is None:
        raise ManifestError("\n".join(issues))
    return manifest


def _read_sections(data: dict[str, Any], registry: Registry, source: YamlSource, issues: list[str]) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    if "sections" in data:
        issues.append(
            f"{source.locate(('sections',))}: sections: write each section at the top level, under its own name."
        )
        del data["sections"]
    for key in [k for k in data if k in registry.names("manifest section")]:
        try:
            model = registry.load("manifest section", key)
            sections[key] = model.model_validate(data.pop(key))
        except ValidationError as error:
            issues += [_locate(source, (key, *i["loc"]), dict(i), model.model_fields, skip=1) for i in error.errors()]
        except WorldR1Error as error:
            data.pop(key, None)
            issues.append(f"{source.locate((key,))}: {key}: {error}")
    return sections


def _check_components(manifest: Manifest, registry: Registry, source: YamlSource) -> list[str]:
    issues: list[str] = []
    seen: set[str] = set()
    for path, kind, spec in manifest.components():
        where = f"{source.locate((*path, 'name'))}: {'.'.join(map(str, path))}"
        if kind == "reward":
            if spec.name in seen:
                issues.append(f"{where}: reward {spec.name!r} stands twice. Keep one, and choose its weight.")
            seen.add(spec.name)
        try:
            component = registry.load(kind, spec.name)
        except WorldR1Error as error:
            issues.append(f"{where}: {error}")
            continue
        try:
            component.Config.model_validate(spec.options)
        except ValidationError as error:
            fields = component.Config.model_fields
            issues += [_locate(source, (*path, *i["loc"]), dict(i), fields, skip=len(path)) for i in error.errors()]
    return issues


def _locate(source: YamlSource, path: KeyPath, issue: dict[str, Any], allowed: Iterable[str], *, skip: int = 0) -> str:
    parent = ".".join(map(str, path[:skip]))
    sentence = describe_validation_issue({**issue, "loc": path[skip:]}, allowed)
    return f"{source.locate(path)}: {parent + ': ' if parent else ''}{sentence}"
