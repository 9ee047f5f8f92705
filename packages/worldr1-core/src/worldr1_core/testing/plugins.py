"""The conformance kit for the registration of a plugin's components by its module."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import click

from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.hookspecs import ENTRY_POINT_GROUP
from worldr1_core.judge import Judge
from worldr1_core.plugins import Installed, discover
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.registry import Entry
from worldr1_core.reward import Reward
from worldr1_core.testing.failures import CheckFailed, CheckSkipped
from worldr1_core.testing.report import Check, Contract, Report, bind, report_on

HEAVY = ("torch", "transformers", "diffusers", "tensorflow", "jax", "scipy", "cv2", "matplotlib", "pandas")
"""Modules that must not be imported when a plugin registers: each costs every `worldr1` command a second or so."""

_INTERFACES: Mapping[str, type] = {"reward": Reward, "reconstructor": Reconstructor, "judge": Judge}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PROBE = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


class PluginSubject:
    """The module that an entry point of the group `worldr1` names.

    Raises:
        UserError: `module` is not the name of a module.
    """

    def __init__(self, module: str) -> None:
        if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
            raise UserError(f"Expected the name of a module such as 'worldr1_sharpness', received {module!r}.")
        self.module = module

    @property
    def modules(self) -> list[str]:
        """The module; see `worldr1_core.testing.failures.place_in`."""
        return [self.module]

    @functools.cached_property
    def found(self) -> Installed:
        """Result of the discovery of this plugin alone."""
        return discover([metadata.EntryPoint(self.module, self.module, ENTRY_POINT_GROUP)])

    @property
    def entries(self) -> list[Entry]:
        """Registered components, one entry per name."""
        return self.found.registry.entries()


def _loads(subject: PluginSubject) -> None:
    if subject.found.failures:
        raise CheckFailed(f"{subject.module!r} cannot be used: {subject.found.failures[0].error}")
    if not subject.entries:
        raise CheckFailed(f"{subject.module!r} registers nothing")


def _names(subject: PluginSubject) -> None:
    odd = [
        entry.name for entry in subject.entries if entry.kind != "manifest section" and not _NAME.fullmatch(entry.name)
    ]
    if odd:
        raise CheckFailed(f"names that are not lower-case words joined by hyphens: {odd}")


def _targets(subject: PluginSubject) -> None:
    for entry in subject.entries:
        try:
            target = entry.load()
        except WorldR1Error as error:
            raise CheckFailed(str(error)) from error
        interface = _INTERFACES.get(entry.kind)
        if interface is not None and not (isinstance(target, type) and issubclass(target, interface)):
            raise CheckFailed(
                f"{entry.kind} {entry.name!r} is {target!r}, not a class derived from {interface.__name__}"
            )
        if entry.kind == "command" and not isinstance(target, click.Command):
            raise CheckFailed(f"command {entry.name!r} is {target!r}, not a click command")


def _light_import(subject: PluginSubject) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _PROBE, subject.module]
    probe = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if probe.returncode:
        raise CheckFailed(f"importing {subject.module!r} failed: {probe.stderr.strip().splitlines()[-1:]}")
    *printed, modules = probe.stdout.splitlines()
    if printed:
        raise CheckFailed(f"importing {subject.module!r} printed {printed[0]!r}")
    if heavy := sorted(set(HEAVY) & set(json.loads(modules))):
        raise CheckFailed(f"importing {subject.module!r} imports {heavy}")


def _no_clash(subject: PluginSubject) -> None:
    others = [entry for entry in discover().registry.entries() if entry.owner.module != subject.module]
    taken = {(entry.kind, entry.name): entry.owner for entry in others}
    for entry in subject.entries:
        if owner := taken.get((entry.kind, entry.name)):
            raise CheckFailed(f"{entry.kind} {entry.name!r} is registered by {owner} too")


def _entry_point(subject: PluginSubject) -> None:
    if any(point.module == subject.module for point in metadata.entry_points(group=ENTRY_POINT_GROUP)):
        return
    distributions = metadata.packages_distributions().get(subject.module.partition(".")[0], [])
    if not distributions:
        raise CheckSkipped(f"no installed distribution provides {subject.module!r}; it is only on the path")
    raise CheckFailed(f"{distributions} have no entry point for {subject.module!r} in the group {ENTRY_POINT_GROUP!r}")


PLUGIN_CONTRACTS: list[Contract[PluginSubject]] = [
    Contract(
        "loads",
        "a plugin that fails to load is left out",
        "implement a worldr1_register_… hook with @hookimpl, which returns {'name': 'module:Class'}",
        _loads,
    ),
    Contract(
        "names",
        "names are keys in manifests, and are typed by hand",
        "use lower-case words joined by hyphens, such as 'exposure-stability'",
        _names,
    ),
    Contract("targets", "a manifest that names it would fail", "correct the string 'module:Class'", _targets),
    Contract(
        "light-import",
        "every `worldr1` command imports every plugin's module",
        "import heavy packages inside functions, or put the classes into another module: hooks return strings",
        _light_import,
    ),
    Contract("no-clash", "a name that two plugins register cannot be used", "choose another name", _no_clash),
    Contract(
        "entry-point",
        "a plugin without an entry point is never found",
        "add [project.entry-points.worldr1] with a line such as: sharpness = 'worldr1_sharpness'; install again",
        _entry_point,
    ),
]
"""All contracts of a plugin's module."""


def plugin_checks(module: str, *, skip: Mapping[str, str] | None = None) -> list[Check[PluginSubject]]:
    """List the checks of a plugin's module, for `@pytest.mark.parametrize("check", …, ids=str)`.

    Args:
        module: The module that the entry point names.
        skip: Check name -> why it does not hold for this plugin.

    Raises:
        UserError: An argument is not of this form.
    """
    subject = PluginSubject(module)
    return bind(PLUGIN_CONTRACTS, lambda: subject, skip)


def check_plugin(module: str, **arguments: Any) -> Report:
    """Run every check of a plugin's module.

    Args:
        module: The module that the entry point names.
        **arguments: See `plugin_checks`.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(module, plugin_checks(module, **arguments))
