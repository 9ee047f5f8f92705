"""`worldr1 doctor` and what it looks at."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from worldr1_core import installation
from worldr1_core.cli import cli
from worldr1_core.commands.doctor import examine
from worldr1_core.plugins import Failure, installed
from worldr1_core.registry import Owner


@pytest.fixture(scope="module")
def report() -> dict:
    return examine(installed())


def test_report_is_json_with_the_versions_that_are_installed() -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert report["versions"]["torch"] == metadata.version("torch")
    assert report["versions"]["worldr1-core"] == metadata.version("worldr1-core")
    assert result.exit_code == bool(report["problems"])


def test_tables_hold_devices_disks_and_plugins() -> None:
    text = CliRunner().invoke(cli, ["doctor"]).stdout
    assert "cpu" in text
    assert str(Path.cwd()) in text
    assert "flow-sde" in text


def test_extras_say_what_is_missing(report: dict) -> None:
    rows = {row["extra"]: row for row in report["extras"]}
    assert rows["worldr1-core[testing]"] == {"extra": "worldr1-core[testing]", "installed": True, "missing": []}
    assert all(bool(row["missing"]) != row["installed"] for row in rows.values())


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("torch>=2.6", None),
        ("torch>=999", f"torch {metadata.version('torch')} is installed, >=999 is needed"),
        ("no-such-library>=1", "no-such-library is not installed"),
    ],
)
def test_requirements_are_checked(requirement: str, problem: str | None) -> None:
    assert installation.unmet(Requirement(requirement)) == problem


def test_extra_requirements_are_those_the_extra_adds() -> None:
    plain = {r.name for r in installation.requirements_of("worldr1-core")}
    extra = {r.name for r in installation.requirements_of("worldr1-core", "plot")}
    assert "torch" in plain
    assert extra == {"matplotlib"}


def test_a_plugin_that_does_not_load_is_a_problem() -> None:
    found = installed()
    owner = Owner("odd", "worldr1-odd", "1.0", "worldr1_odd")
    broken = type(found)(found.registry, found.plugins, (Failure(owner, "ImportError: no module 'gone'"),))
    assert "Plugin odd of worldr1-odd failed to load: ImportError: no module 'gone'" in examine(broken)["problems"]


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldr1_core.commands.doctor.LOW_DISK", 1e9)
    problems = examine(installed())["problems"]
    assert any("GiB are free for the temporary files" in problem for problem in problems)


def test_disk_of_a_cache_that_does_not_exist_yet_is_that_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "new" / "hub"))
    row = next(row for row in installation.disks() if row["use"] == "downloaded models")
    assert row["path"] == str(tmp_path / "new" / "hub")
    assert row["free_gib"] > 0


def test_settings_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("TORCH_HOME", raising=False)
    assert installation.settings()["HF_HUB_OFFLINE"] == "1"
    assert "TORCH_HOME" not in installation.settings()
