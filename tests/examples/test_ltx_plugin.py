"""The example backbone works as an installed third-party package: discovered, tested by its own tests, in a schema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "worldr1-ltx"


@pytest.fixture(scope="module")
def installed_copy(tmp_path_factory) -> Path:
    """A copy of the example with the metadata that an editable install would write."""
    folder = tmp_path_factory.mktemp("example") / "worldr1-ltx"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"worldr1_ltx-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["worldr1"].items())
    (info / "entry_points.txt").write_text(f"[worldr1]\n{points}")
    return folder


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def _worldr1(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _python(folder, "-c", "from worldr1_core.cli import main; main()", *arguments)


@pytest.mark.slow
def test_its_own_tests_pass_and_its_entry_point_is_found(installed_copy):
    run = _python(installed_copy, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "it is only on the path" not in run.stdout


def test_it_is_listed_with_its_owner(installed_copy):
    report = json.loads(_worldr1(installed_copy, "plugins", "--json").stdout)
    assert [c["distribution"] for c in report["components"] if c["name"] == "ltx"] == ["worldr1-ltx"]
    assert report["failures"] == report["conflicts"] == []


def test_the_manifest_of_its_readme_validates(installed_copy):
    text = (installed_copy / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    (installed_copy / "manifest.yaml").write_text(text)
    run = _worldr1(installed_copy, "validate", "manifest.yaml")
    assert run.returncode == 0, run.stderr


def test_a_typo_in_the_manifest_is_named(installed_copy):
    (installed_copy / "typo.yaml").write_text("version: 1\nbackbone: {name: ltx, hieght: 512}\n")
    run = _worldr1(installed_copy, "validate", "typo.yaml")
    assert run.returncode == 2
    assert "hieght" in run.stdout + run.stderr


def test_the_module_is_at_most_forty_lines():
    files = [EXAMPLE / "worldr1_ltx" / name for name in ("__init__.py", "backbone.py")]
    assert len([line for file in files for line in file.read_text().splitlines() if line.strip()]) <= 40


def test_it_is_no_part_of_the_workspace():
    workspace = tomllib.loads((EXAMPLE.parents[1] / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    assert not any(EXAMPLE in EXAMPLE.parents[1].glob(pattern) for pattern in workspace["members"])
