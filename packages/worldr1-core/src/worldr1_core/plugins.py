"""Discovery of plugins: entry points are loaded one by one, so that a broken one is reported and others still load."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pluggy

from worldr1_core import hookspecs
from worldr1_core.errors import PluginError, describe_exception, suggest
from worldr1_core.registry import ALIAS_HOOK, KINDS, Alias, Entry, Owner, Registry

UNKNOWN_DISTRIBUTION = "unknown distribution"


@dataclass(frozen=True, slots=True)
class Failure:
    """A plugin, or one of its hooks, that could not be used, and why."""

    owner: Owner
    error: str


@dataclass(frozen=True, slots=True)
class Installed:
    """The outcome of plugin discovery.

    Attributes:
        registry: What the working plugins registered.
        plugins: The plugins that loaded, in discovery order.
        failures: What did not load, with the reason.
    """

    registry: Registry
    plugins: list[Owner] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def discover(entry_points: Iterable[metadata.EntryPoint] | None = None) -> Installed:
    """Load every plugin and collect what it registers.

    A plugin that fails in any way, `SystemExit` at import included, is recorded and logged and stops nothing. What
    plugins print while they load goes to stderr: stdout belongs to results.

    Args:
        entry_points: Entry points to load; those of the group `worldr1` when left out.
    """
    installed = Installed(Registry())
    if entry_points is None:
        entry_points = _installed_entry_points(installed)
    owned = [(_owner(entry_point), entry_point) for entry_point in dict.fromkeys(entry_points)]
    for owner, entry_point in sorted(owned, key=lambda pair: (pair[0].distribution, pair[0].plugin, pair[0].module)):
        try:
            with contextlib.redirect_stdout(sys.stderr):
                _register(_load(entry_point), owner, installed)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one broken plugin must not take the others down
            _fail(installed, owner, error)
        else:
            installed.plugins.append(owner)
    for group in installed.registry.conflicts():
        _log().warning(
            "two plugins register one name",
            kind=group[0].kind,
            name=group[0].name,
            owners=[str(e.owner) for e in group],
        )
    return installed


@functools.cache
def installed() -> Installed:
    """The plugins of this environment, discovered once a process."""
    return discover()


def _log() -> Any:
    from worldr1_core.log import get_logger

    return get_logger(__name__)


def _fail(installed: Installed, owner: Owner, error: BaseException) -> None:
    reason = describe_exception(error)
    installed.failures.append(Failure(owner, reason))
    _log().warning("plugin failed to load", plugin=str(owner), error=reason)


def _installed_entry_points(installed: Installed) -> list[metadata.EntryPoint]:
    """The entry points of our group, one distribution at a time: corrupt metadata of one hides no other."""
    found: list[metadata.EntryPoint] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            ours = [e for e in distribution.entry_points if e.group == hookspecs.ENTRY_POINT_GROUP]
        except Exception as error:  # noqa: BLE001 - the metadata of any installed package may be corrupt
            _fail(installed, Owner("entry points", *_identity(distribution), module=""), error)
            continue
        if ours:
            name = re.sub(r"[-_.]+", "-", _identity(distribution)[0]).lower()
            if name == UNKNOWN_DISTRIBUTION or name not in seen:  # else shadowed by one earlier on the path
                found += ours
            seen.add(name)
    return found


def _identity(distribution: metadata.Distribution | None) -> tuple[str, str]:
    try:
        if distribution is not None:
            return str(distribution.name or UNKNOWN_DISTRIBUTION), str(distribution.version or "?")
    except Exception as error:  # noqa: BLE001 - a distribution without readable metadata still has entry points
        _log().debug("unreadable package metadata", error=str(error))
    return UNKNOWN_DISTRIBUTION, "?"


def _owner(entry_point: metadata.EntryPoint) -> Owner:
    module = entry_point.value.partition(":")[0].partition("[")[0].strip()
    return Owner(entry_point.name, *_identity(entry_point.dist), module=module)


def _load(entry_point: metadata.EntryPoint) -> Any:
    if entry_point.pattern.match(entry_point.value) is None:
        raise PluginError(
            f"the entry point must be 'module' or 'module:attribute', received {entry_point.value!r}. "
            "Mend it in the plugin's pyproject.toml."
        )
    return entry_point.load()


def _register(module: Any, owner: Owner, installed: Installed) -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=str(owner))
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = sorted([*KINDS.values(), ALIAS_HOOK])
        wrong = next(c.name for c in manager.get_hookcallers(module) or [] if c.name not in known)
        raise PluginError(f"unknown hook {wrong!r}. Allowed: {known}.{suggest(wrong, known)}") from error
    if not manager.get_hookcallers(module):
        raise PluginError(
            "the entry point implements no hook. Decorate at least one of "
            f"{sorted([*KINDS.values(), ALIAS_HOOK])} with worldr1_core.hookimpl."
        )
    staged = Registry()
    for kind, hook_name in KINDS.items():
        for answer in getattr(manager.hook, hook_name)():
            if not isinstance(answer, Mapping):
                raise PluginError(f"{hook_name} must return a mapping name -> 'module:attribute', received {answer!r}.")
            for name, target in answer.items():
                staged.add(Entry(kind, name, target, owner))
    for answer in getattr(manager.hook, ALIAS_HOOK)():
        for alias in _aliases(answer, owner):
            staged.add_alias(alias)
            _check_alias(alias, staged.names(alias.kind))
    for entry in staged.entries():
        installed.registry.add(entry)
    for alias in staged.aliases():
        installed.registry.add_alias(alias)


def _aliases(answer: Any, owner: Owner) -> Iterator[Alias]:
    if not isinstance(answer, Mapping) or not all(isinstance(names, Mapping) for names in answer.values()):
        raise PluginError(f"{ALIAS_HOOK} must return a mapping kind -> {{old name: new name}}, received {answer!r}.")
    for kind, names in answer.items():
        for old, new in names.items():
            yield Alias(kind, old, new, owner)


def _check_alias(alias: Alias, registered: list[str]) -> None:
    """Check an alias against the names of its kind that the same plugin registers."""
    if alias.old in registered:
        raise PluginError(
            f"{ALIAS_HOOK} calls {alias.old!r} an old name, and the plugin registers it as a {alias.kind}. "
            "Remove one of them."
        )
    if alias.new not in registered:
        raise PluginError(
            f"{ALIAS_HOOK} maps {alias.old!r} to {alias.new!r}, which is not a {alias.kind} of this plugin. "
            f"Allowed: {registered}."
        )
