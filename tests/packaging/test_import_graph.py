"""Modules import each other in no circle, and packages import downwards only."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
PACKAGE_NAMES = ("worldr1_core", "worldr1_rewards", "worldr1_backbones", "worldr1_train")
ALLOWED = {name: {name, "worldr1_core"} for name in PACKAGE_NAMES}


def read_modules() -> dict[str, Path]:
    """All modules of the packages by their dotted names."""
    modules = {}
    for source in PACKAGES.glob("*/src"):
        for path in source.rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imported(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports when it is itself imported; imports inside functions do not count."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else node.module for name in names}
    return found & modules.keys()


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    modules = read_modules()
    return {name: imported(path, modules) - {name} for name, path in modules.items()}


def test_every_package_is_in_the_graph(graph: dict[str, set[str]]) -> None:
    assert {name.partition(".")[0] for name in graph} == set(PACKAGE_NAMES)
    assert "worldr1_core.errors" in graph["worldr1_core.video"]


def test_no_import_circle(graph: dict[str, set[str]]) -> None:
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_packages_import_core_alone(graph: dict[str, set[str]]) -> None:
    upward = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if target.partition(".")[0] not in ALLOWED[module.partition(".")[0]]
    ]
    assert upward == []
