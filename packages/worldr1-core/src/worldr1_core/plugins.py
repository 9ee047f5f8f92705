"""Finding plugins: entry points are loaded one by one, so that a broken one is reported and stops nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pluggy
import structlog

from worldr1_core import hookspecs
from worldr1_core.errors import PluginError
from worldr1_core.registry import KINDS, Entry, Owner, Registry

log = structlog.get_logger(__name__)


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

    Args:
        entry_points: Entry points to load; those of the group `worldr1` when left out.
    """
    found = metadata.entry_points(group=hookspecs.ENTRY_POINT_GROUP) if entry_points is None else entry_points
    installed = Installed(Registry())
    for entry_point in sorted(set(found), key=lambda e: (_owner(e).distribution, e.name)):
        owner = _owner(entry_point)
        try:
            _register(entry_point.load(), owner, installed)
        except Exception as error:  # noqa: BLE001 - one broken plugin must not take the others down
            reason = f"{type(error).__name__}: {error}"
            installed.failures.append(Failure(owner, reason))
            log.warning("plugin failed to load", plugin=str(owner), error=reason)
        else:
            installed.plugins.append(owner)
    for group in installed.registry.conflicts():
        log.warning(
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


def _owner(entry_point: metadata.EntryPoint) -> Owner:
    distribution = entry_point.dist
    name, version = ("unknown distribution", "?") if distribution is None else (distribution.name, distribution.version)
    return Owner(entry_point.name, name, version, entry_point.module)


def _register(module: Any, owner: Owner, installed: Installed) -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=str(owner))
    manager.check_pending()
    if not manager.get_hookcallers(module):
        raise PluginError(
            "the entry point implements no hook. Decorate at least one of "
            f"{sorted(KINDS.values())} with worldr1_core.hookimpl."
        )
    staged = Registry()
    for kind, hook_name in KINDS.items():
        for answer in getattr(manager.hook, hook_name)():
            if not isinstance(answer, Mapping):
                raise PluginError(f"{hook_name} must return a mapping name -> 'module:attribute', received {answer!r}.")
            for name, target in answer.items():
                staged.add(Entry(kind, name, target, owner))
    for entry in staged.entries():
        installed.registry.add(entry)
