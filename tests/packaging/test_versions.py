"""The workspace: one version, dependencies that point down, are declared, and are bounded; clean tracked files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from worldr1_core.registry import ALIAS_HOOK, KINDS

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
PROJECTS = {folder.name: tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in PACKAGES}
MODULES = {name: name.replace("-", "_") for name in PROJECTS}
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(\[[^\]]*\])?\s*(.*)$")
INDEX_HOST, FILES_HOST = "pypi" + ".org", "files.python" + "hosted.org"
IMPORT_NAMES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "open-clip-torch": "open_clip",
    "rerun-sdk": "rerun",
    **dict.fromkeys(
        ("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-exporter-otlp-json-http"), "opentelemetry"
    ),
    **MODULES,
}
"""Distribution -> top-level module, where they differ in more than case and dashes."""


def requirements(name: str, *, extras: bool = True) -> list[tuple[str, str, str]]:
    """(distribution, extras, version bounds) that a package declares."""
    project = PROJECTS[name]
    listed = list(project["dependencies"])
    for group in project.get("optional-dependencies", {}).values() if extras else ():
        listed += group
    return [REQUIREMENT.match(item).groups(default="") for item in listed]


def sources(name: str) -> list[Path]:
    return sorted((ROOT / "packages" / name / "src" / MODULES[name]).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports anywhere, type-checking blocks and `require("...")` included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("require", "import_module") and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return {module.partition(".")[0] for module in found}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def test_the_four_packages_are_there():
    assert list(PROJECTS) == ["worldr1-backbones", "worldr1-core", "worldr1-rewards", "worldr1-train"]


def test_all_packages_share_one_version():
    assert len({project["version"] for project in PROJECTS.values()}) == 1


@pytest.mark.parametrize("name", PROJECTS)
def test_version_is_that_of_the_module_and_of_the_metadata(name):
    module = __import__(MODULES[name])
    declared = PROJECTS[name]["version"]
    assert metadata.version(name) == declared
    assert getattr(module, "__version__", declared) == declared


@pytest.mark.parametrize("name", PROJECTS)
def test_siblings_are_pinned_to_the_shared_version(name):
    for distribution, _, bounds in requirements(name):
        if distribution in PROJECTS:
            assert bounds == f"=={PROJECTS[name]['version']}", distribution


@pytest.mark.parametrize("name", PROJECTS)
def test_every_other_dependency_has_a_lower_bound(name):
    for distribution, _, bounds in requirements(name):
        if distribution not in PROJECTS:
            assert re.match(r">=\d", bounds), f"{distribution}{bounds}"


@pytest.mark.parametrize("name", PROJECTS)
def test_package_carries_what_a_user_expects(name):
    folder, project = ROOT / "packages" / name, PROJECTS[name]
    assert (folder / "src" / MODULES[name] / "py.typed").is_file()
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert project["readme"] == "README.md"
    assert project["license"] == "Apache-2.0"
    assert project["requires-python"] == ">=3.11"
    assert len(project["description"]) > 20


@pytest.mark.parametrize("name", PROJECTS)
def test_plugin_entry_point_names_a_module_with_hooks(name):
    (reference,) = PROJECTS[name]["entry-points"]["worldr1"].values()
    path = ROOT / "packages" / name / "src" / (reference.replace(".", "/") + ".py")
    functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert functions
    assert functions <= {*KINDS.values(), ALIAS_HOOK}


@pytest.mark.parametrize("name", PROJECTS)
def test_dependencies_point_down_only(name):
    below = set() if name == "worldr1-core" else {"worldr1_core"}
    others = set(MODULES.values()) - below - {MODULES[name]}
    for path in sources(name):
        assert not imported(path) & others, path
    assert {d for d, _, _ in requirements(name)} & set(PROJECTS) == ({"worldr1-core"} if below else set())


@pytest.mark.parametrize("folder", ["rewards", "probes", "reconstructors", "judges", "worlds"])
def test_rewards_can_be_tested_without_backbones_and_trainer(folder):
    for path in (ROOT / "tests" / folder).rglob("*.py"):
        assert not imported(path) & {"worldr1_backbones", "worldr1_train"}, path


def test_core_names_none_of_the_components_of_the_others():
    """A string in core that equals a registered name would tie core to its plugins; docstrings may give examples."""
    names = {
        entry
        for name in PROJECTS
        if name != "worldr1-core"
        for path in sources(name)
        if path.name == "plugin.py"
        for hook in ast.parse(path.read_text()).body
        if isinstance(hook, ast.FunctionDef) and hook.name in KINDS.values()
        for node in ast.walk(hook)
        if isinstance(node, ast.Dict)
        for entry in [key.value for key in node.keys]
    }
    assert "reconstruction" in names
    # Attributes and parts that core itself defines, and libraries.
    interface_words = {"trajectory", "reconstruction", "score", "train", "transformers", "openai", "auto"}
    for path in sources("worldr1-core"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        text = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert not text & (names - interface_words), path


NEEDED_BY_LIBRARIES = {
    # diffusers loads and offloads with accelerate, Wan's pipeline cleans prompts with ftfy, and transformers reads the
    # tokenizers of T5 checkpoints with sentencepiece.
    "worldr1-backbones": {"accelerate", "ftfy", "sentencepiece"},
    # depth-anything-3 imports addict without declaring it.
    "worldr1-rewards": {"addict"},
}
"""Dependencies that a package needs without importing them itself."""


INSTALLED_BY_USERS = {
    "pyiqa",  # its licence forbids commercial use
    "vbench",  # its pins exclude ours: it stands in an environment of its own
}
"""Imported where it is found, and never installed for anyone."""


@pytest.mark.parametrize("name", PROJECTS)
def test_declared_dependencies_are_those_that_are_imported(name):
    own = {MODULES[name], "__future__"} | set(sys.stdlib_module_names)
    used = set().union(*(imported(path) for path in sources(name))) - own
    declared = {
        IMPORT_NAMES.get(distribution.lower(), distribution.lower().replace("-", "_")): distribution
        for distribution, _, _ in requirements(name)
        if distribution != "pytest"  # the extra `testing` brings the runner of the kit's checks
    }
    assert used - declared.keys() - {"pytest", *INSTALLED_BY_USERS} == set(), "imported, but not declared"
    idle = {declared[module] for module in declared.keys() - used}
    assert idle == NEEDED_BY_LIBRARIES.get(name, set()), "declared, but not imported"


@pytest.mark.parametrize("name", PROJECTS)
def test_library_code_does_not_print(name):
    for path in sources(name):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}"


@pytest.mark.parametrize("name", PROJECTS)
def test_every_module_says_why_it_exists(name):
    for path in sources(name):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


NO_TEXT = {".png", ".jpg", ".gif", ".mp4", ".webm", ".npy", ".ico", ".safetensors"}


def test_tracked_files_name_no_index_and_no_path_of_a_machine():
    machine = re.compile(
        rf"(?<![\w.~-])/(work|home/\w|root|Users|tmp/\w|mnt|data)/|{re.escape(INDEX_HOST)}|{re.escape(FILES_HOST)}"
    )
    for path in tracked():
        if path.name == "uv.lock" or path.suffix in {
            ".png",
            ".jpg",
            ".gif",
            ".mp4",
            ".webm",
            ".npy",
            ".ico",
            ".safetensors",
        }:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert not machine.search(line), f"{path.relative_to(ROOT)}:{number}: {line}"


def test_lock_file_names_only_the_default_index():
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    sources_ = [package["source"] for package in lock["package"]]
    assert {source["registry"] for source in sources_ if "registry" in source} == {f"https://{INDEX_HOST}/simple"}
    assert all(source.keys() <= {"registry", "editable", "virtual"} for source in sources_)
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts <= {INDEX_HOST, FILES_HOST}


def test_lock_file_holds_every_package_of_the_workspace():
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    local = {package["name"] for package in lock["package"] if "editable" in package["source"]}
    assert local >= set(PROJECTS)


def test_root_requires_the_same_python():
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert root["requires-python"] == ">=3.11"
    assert root["version"] == PROJECTS["worldr1-core"]["version"]


@pytest.mark.parametrize("name", [name for name in PROJECTS if name != "worldr1-core"])
def test_importing_a_package_imports_nothing_heavy(name):
    code = f"import sys, {MODULES[name]}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "numpy", "lpips", "diffusers", "trl"}
