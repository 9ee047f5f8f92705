"""The example works as an installed third-party package: discovered, tested by its own tests, scoring."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "worldr1-sharpness"


@pytest.fixture(scope="module")
def installed_copy(tmp_path_factory) -> Path:
    """A copy of the example with the metadata that an editable install would write."""
    folder = tmp_path_factory.mktemp("example") / "worldr1-sharpness"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"worldr1_sharpness-{project['version']}.dist-info"
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


def test_its_own_tests_pass_and_its_entry_point_is_found(installed_copy):
    run = _python(installed_copy, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "it is only on the path" not in run.stdout


def test_it_is_listed_with_its_owner(installed_copy):
    report = json.loads(_worldr1(installed_copy, "plugins", "--json").stdout)
    assert [c["distribution"] for c in report["components"] if c["name"] == "sharpness"] == ["worldr1-sharpness"]
    assert report["failures"] == report["conflicts"] == []


def test_the_manifest_of_its_readme_scores_a_clip(installed_copy):
    text = (installed_copy / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    (installed_copy / "manifest.yaml").write_text(text)
    np.save(installed_copy / "clip.npy", np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32))
    run = _worldr1(installed_copy, "score", "clip.npy", "--manifest", "manifest.yaml")
    assert run.returncode == 0, run.stderr
    line = json.loads(run.stdout)
    # Of white noise, a box of nine pixels takes a ninth of the variance.
    assert line["scores"]["sharpness"] == pytest.approx((8 / 9) ** 0.5, abs=0.02)
    assert line["total"] == line["scores"]["sharpness"]


def test_it_depends_on_core_alone_and_is_no_part_of_the_workspace():
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    assert [name.split(">")[0] for name in project["dependencies"]] == ["worldr1-core"]
    workspace = tomllib.loads((EXAMPLE.parents[1] / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    assert not any(EXAMPLE in EXAMPLE.parents[1].glob(pattern) for pattern in workspace["members"])


def test_the_score_itself_is_at_most_twenty_lines():
    source = (EXAMPLE / "worldr1_sharpness.py").read_text()
    body = source.split("config: Config\n")[1].split("@hookimpl")[0]
    assert 5 <= len([line for line in body.splitlines() if line.strip()]) <= 20
