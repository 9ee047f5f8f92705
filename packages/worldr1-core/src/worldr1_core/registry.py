"""What is installed: component names, where their classes live, and which distribution owns each.

Plugins register through hooks; `register` adds a component of the running process, without a package.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from worldr1_core.deprecation import warn_renamed
from worldr1_core.errors import (
    DuplicateNameError,
    MissingExtraError,
    PluginError,
    UnknownNameError,
    describe_exception,
    suggest,
)

T = TypeVar("T")

KINDS: Mapping[str, str] = {
    "reward": "worldr1_register_rewards",
    "reconstructor": "worldr1_register_reconstructors",
    "judge": "worldr1_register_judges",
    "backbone": "worldr1_register_backbones",
    "noise conditioner": "worldr1_register_noise_conditioners",
    "sampler": "worldr1_register_samplers",
    "objective": "worldr1_register_objectives",
    "placement": "worldr1_register_placements",
    "manifest section": "worldr1_register_manifest_sections",
    "command": "worldr1_register_commands",
}
"""Component kind -> the hook that registers it."""

ALIAS_HOOK = "worldr1_register_aliases"
"""The hook that keeps old names of components working."""

RESERVED: Mapping[str, frozenset[str]] = {
    "manifest section": frozenset(
        [
            *("version", "seed", "device", "prompts", "sections"),
            *("backbone", "noise", "sampler", "reconstructor", "judge", "rewards"),
        ]
    ),
    "reward": frozenset({"total", "reconstructor"}),
}
"""Names that no plugin may register: core's own manifest keys, and the keys that stand beside rewards in results."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The plugin that registers a name.

    Attributes:
        plugin: Name of its entry point.
        distribution: Installed distribution, e.g. `"worldr1-rewards"`.
        version: That distribution's version.
        module: Module that the entry point names.

    A component that the running process registered has no plugin, only a module.
    """

    plugin: str
    distribution: str
    version: str
    module: str

    @property
    def is_process(self) -> bool:
        """Whether the running process registered the name, rather than a plugin."""
        return not self.plugin

    def __str__(self) -> str:
        if self.is_process:
            return f"this process (module {self.module!r})"
        return f"{self.distribution} {self.version} (plugin {self.plugin!r})"


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered component: `name` is unique within `kind`, `target` is `"module:attribute"`.

    `component` is the class or function itself where the running process registered it; it is not imported then.
    """

    kind: str
    name: str
    target: str
    owner: Owner
    component: Any = field(default=None, compare=False, repr=False)

    def load(self) -> Any:
        """Return the component, importing it where a plugin registered it.

        Raises:
            MissingExtraError: An optional dependency is absent.
            PluginError: The module cannot be imported or lacks the attribute.
        """
        if self.component is not None:
            return self.component
        module_name, _, attribute = self.target.partition(":")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return getattr(importlib.import_module(module_name), attribute)
        except MissingExtraError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.kind.capitalize()} {self.name!r} of {self.owner} cannot be loaded from {self.target!r}: "
                f"{describe_exception(error)}. Update or uninstall {self.owner.distribution!r}."
            ) from error


@dataclass(frozen=True, slots=True)
class Alias:
    """An old name that a plugin keeps for a component of its own: `old` now is `new`."""

    kind: str
    old: str
    new: str
    owner: Owner


class Registry:
    """Components by kind and name.

    A name registered twice is kept as a conflict: it stops nothing until somebody asks for that name. Aliases are not
    listed; asking for one warns and finds the component under its new name.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[Entry]] = {}
        self._aliases: dict[tuple[str, str], list[Alias]] = {}

    def add(self, entry: Entry) -> None:
        """Register a component.

        Raises:
            PluginError: Unknown kind, a reserved name, or a name or target that is not of the documented form.
        """
        self._check(entry)
        self._entries.setdefault((entry.kind, entry.name), []).append(entry)

    def register(self, kind: str, name: str, component: T, *, replace: bool = False) -> T:
        """Register a component of the running process; see `register`."""
        entry = _process_entry(kind, name, component)
        self._check(entry)
        group = self._entries.get((kind, name), [])
        if group and not (replace and group[0].owner.is_process):
            raise DuplicateNameError(_taken(entry, group))
        if kind not in ("command", "manifest section"):
            from worldr1_core.component import check_component

            check_component(kind, name, component, f"{kind.capitalize()} {name!r} of {entry.owner}")
        self._entries[kind, name] = [entry]
        return component

    def unregister(self, kind: str, name: str) -> None:
        """Forget a component of the running process; see `unregister`."""
        owner = self.find(kind, name).owner
        if not owner.is_process:
            raise PluginError(f"{kind.capitalize()} {name!r} is registered by {owner}. Uninstall that package instead.")
        del self._entries[kind, name]

    def _check(self, entry: Entry) -> None:
        if entry.kind not in KINDS:
            allowed = sorted(KINDS)
            raise PluginError(
                f"Unknown component kind {entry.kind!r}. Allowed: {allowed}.{suggest(str(entry.kind), allowed)}"
            )
        if not isinstance(entry.name, str) or not entry.name:
            raise PluginError(f"A {entry.kind} name must be a non-empty string, received {entry.name!r}.")
        if entry.name in RESERVED.get(entry.kind, ()):
            raise PluginError(f"The name {entry.name!r} is reserved and cannot be a {entry.kind}. Choose another one.")
        if not isinstance(entry.target, str) or entry.target.count(":") != 1 or not all(entry.target.split(":")):
            raise PluginError(
                f"The target of {entry.kind} {entry.name!r} must be 'module:attribute', received {entry.target!r}."
            )

    def add_alias(self, alias: Alias) -> None:
        """Keep an old name working.

        Raises:
            PluginError: Unknown kind, or an old name that is reserved or not a non-empty string.
        """
        if alias.kind not in KINDS:
            raise PluginError(f"Unknown component kind {alias.kind!r} of an alias. Allowed: {sorted(KINDS)}.")
        if not isinstance(alias.old, str) or not alias.old or alias.old in RESERVED.get(alias.kind, ()):
            raise PluginError(
                f"The old name of a {alias.kind} must be a non-empty string and not reserved, received {alias.old!r}."
            )
        self._aliases.setdefault((alias.kind, alias.old), []).append(alias)

    def aliases(self) -> list[Alias]:
        """Every alias, ordered by kind, old name and owner."""
        flat = [alias for group in self._aliases.values() for alias in group]
        return sorted(flat, key=lambda a: (list(KINDS).index(a.kind), a.old, str(a.owner)))

    def has(self, kind: str, name: str) -> bool:
        """Whether `find` knows the name, as a current one or as an alias."""
        return (kind, name) in self._entries or (kind, name) in self._aliases

    def current_name(self, kind: str, name: str) -> str:
        """The name that replaces an alias, with a `FutureWarning`; any other name unchanged.

        A registered name goes before an alias of another plugin.

        Raises:
            DuplicateNameError: Two plugins keep this old name for different components.
        """
        group = self._aliases.get((kind, name), [])
        if not group or (kind, name) in self._entries:
            return name
        if len({alias.new for alias in group}) > 1:
            meanings = " and ".join(f"{alias.new!r} of {alias.owner}" for alias in group)
            raise DuplicateNameError(
                f"{kind.capitalize()} {name!r} is an old name of {meanings}. Write the one you mean."
            )
        warn_renamed(kind.capitalize(), name, group[0].new)
        return group[0].new

    def names(self, kind: str) -> list[str]:
        """Registered names of a kind, sorted; conflicting ones included."""
        return sorted(name for entry_kind, name in self._entries if entry_kind == kind)

    def entries(self) -> list[Entry]:
        """Every registration, ordered by kind, name and owner."""
        flat = [entry for group in self._entries.values() for entry in group]
        return sorted(flat, key=lambda e: (list(KINDS).index(e.kind), e.name, str(e.owner)))

    def conflicts(self) -> list[list[Entry]]:
        """Groups of registrations that share one kind and name."""
        return [group for _, group in sorted(self._entries.items()) if len(group) > 1]

    def find(self, kind: str, name: str) -> Entry:
        """The single registration of a name, or of the name that replaces an alias.

        Raises:
            UnknownNameError: Nothing installed registers it.
            DuplicateNameError: Two plugins register it; the message names both.
        """
        name = self.current_name(kind, name)
        group = self._entries.get((kind, name), [])
        if not group:
            names = self.names(kind)
            raise UnknownNameError(f"Unknown {kind} {name!r}. Installed: {names}.{suggest(name, names)}")
        if len(group) > 1:
            owners = " and ".join(str(entry.owner) for entry in group)
            raise DuplicateNameError(
                f"{kind.capitalize()} {name!r} is registered by {owners}. "
                "Uninstall one of them, or rename its component."
            )
        return group[0]

    def load(self, kind: str, name: str) -> Any:
        """Import the component registered under a name (see `find` and `Entry.load` for the errors)."""
        return self.find(kind, name).load()


@overload
def register(kind: str, name: str, component: T, *, replace: bool = ...) -> T: ...


@overload
def register(kind: str, name: str, *, replace: bool = ...) -> Callable[[T], T]: ...


def register(kind: str, name: str, component: Any = None, *, replace: bool = False) -> Any:
    """Register a component of this process, so that it can be named in `Scorer`, in manifests and in the trainer.

    Other processes do not see it; a plugin registers components for every process.

    Args:
        kind: `"reward"`, `"reconstructor"`, `"judge"`, `"backbone"`, `"noise conditioner"`, `"sampler"`,
            `"objective"`, `"placement"`, `"manifest section"` or `"command"`.
        name: Name to register it under.
        component: A class derived from the interface of its kind; as a reward also a function in TRL's convention.
            Without it, `register` is a decorator.
        replace: Replace what this process registered under the name before, as when the cell of a notebook runs again.
            The component of a plugin is never replaced.

    Returns:
        The component.

    Raises:
        DuplicateNameError: The name is taken; the message names both owners.
        PluginError: Unknown kind, reserved name, or the component does not implement the interface of its kind.

    Example:
        >>> from worldr1_core import Reward, register
        >>> @register("reward", "brightness", replace=True)
        ... class BrightnessReward(Reward):
        ...     def score(self, clip, inputs):
        ...         return float(clip.video.frames.mean())
    """
    from worldr1_core.plugins import installed

    if component is None:
        return lambda decorated: installed().registry.register(kind, name, decorated, replace=replace)
    return installed().registry.register(kind, name, component, replace=replace)


def unregister(kind: str, name: str) -> None:
    """Forget a component that `register` registered.

    Raises:
        UnknownNameError: The name is not registered.
        PluginError: A plugin registered it.
    """
    from worldr1_core.plugins import installed

    installed().registry.unregister(kind, name)


def _process_entry(kind: str, name: str, component: Any) -> Entry:
    named = component if hasattr(component, "__qualname__") else type(component)
    module = str(getattr(named, "__module__", "__main__"))
    owner = Owner(plugin="", distribution="", version="", module=module)
    return Entry(kind, name, f"{module}:{named.__qualname__}", owner, component)


def _taken(entry: Entry, group: list[Entry]) -> str:
    owners = " and ".join(str(other.owner) for other in group)
    advice = (
        "Choose another name, or pass replace=True to replace it."
        if all(other.owner.is_process for other in group)
        else "Choose another name: the component of a plugin is not replaced."
    )
    return (
        f"{entry.kind.capitalize()} {entry.name!r} is registered by {owners}, and {entry.owner} registers it too. "
        f"{advice}"
    )
