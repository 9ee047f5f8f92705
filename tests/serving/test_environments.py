"""Environments of workers, with a program in the place of uv that writes down how it was called."""

from __future__ import annotations

import json
import logging
import shlex
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from worldr1_core.commands.doctor import examine
from worldr1_core.errors import UserError
from worldr1_core.plugins import installed
from worldr1_rewards.serving import environments
from worldr1_rewards.serving.environments import EnvironmentOptions, made_environments, make_environment

UV = """\
#!/bin/sh
echo "$@" >> {calls}
case "$1" in
  export) echo "-e ./packages/worldr1-rewards"; echo "torch==2.0" ;;
  venv) [ ! -e {broken} ] || {{ echo "no such Python" >&2; exit 2; }}
        for last; do :; done; mkdir -p "$last/bin"; touch "$last/bin/python" ;;
esac
"""


class FakeUv:
    def __init__(self, folder: Path) -> None:
        self._calls, self.broken = folder / "calls", folder / "broken"
        program = folder / "uv"
        program.write_text(UV.format(calls=shlex.quote(str(self._calls)), broken=shlex.quote(str(self.broken))))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def calls(self, *command: str) -> list[str]:
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if line.startswith(" ".join(command))]


@pytest.fixture
def uv(tmp_path, monkeypatch) -> FakeUv:
    folder = tmp_path / "program"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("WORLDR1_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("WORLDR1_ALLOW_PACKAGES", raising=False)
    return FakeUv(folder)


def requirements(python: Path) -> list[str]:
    return (python.parents[2] / "requirements.txt").read_text().splitlines()


def test_an_environment_has_the_versions_of_the_lock_file_and_is_made_once(uv):
    first = make_environment(EnvironmentOptions(extras=["da3"]))
    assert first.is_file()
    assert requirements(first)[0].endswith("/packages/worldr1-rewards")
    assert requirements(first)[1] == "torch==2.0"
    (export,) = uv.calls("export")
    assert "--frozen --package worldr1-rewards --extra da3 --extra serve" in export
    assert make_environment(EnvironmentOptions(extras=["da3"])) == first
    assert len(uv.calls("venv")) == len(uv.calls("pip")) == 1


def test_making_an_environment_is_announced_once(uv, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        make_environment(EnvironmentOptions(extras=["da3"]))
    told = [record.getMessage() for record in caplog.records]
    assert [sum(text in line for line in told) for text in ("making the environment of a worker", "ready")] == [1, 1]
    assert "da3" in told[0]


def test_other_specifications_are_other_environments(uv):
    options = [EnvironmentOptions(), EnvironmentOptions(python="3.12"), EnvironmentOptions(extras=["hpsv3"])]
    assert len({make_environment(given) for given in options}) == 3
    assert "--python 3.12" in uv.calls("venv")[1]


def test_plugins_of_the_workspace_have_the_versions_of_its_lock_file(uv):
    make_environment(EnvironmentOptions(), plugins=["worldr1-backbones", "worldr1-rewards"])
    assert "--package worldr1-rewards --package worldr1-backbones " in uv.calls("export")[0]


def test_plugins_from_elsewhere_are_added(uv, site, monkeypatch):
    site.add("acme-own", "", version="2.5")
    python = make_environment(EnvironmentOptions(), plugins=["acme-own"])
    assert requirements(python)[-1] == "acme-own==2.5"


def test_the_instruction_of_hpsv3_is_installed_without_what_its_package_requires(uv):
    python = make_environment(EnvironmentOptions(extras=["hpsv3"]))
    _, bare = uv.calls("pip")
    assert not any("hpsv3" in line for line in requirements(python))
    assert bare.endswith("--no-deps --no-build hpsv3==1.0.0")
    assert "--extra hpsv3" not in uv.calls("export")[0]


def test_packages_of_a_manifest_need_the_consent_of_the_user(uv, monkeypatch):
    options = EnvironmentOptions(packages=["acme-rewards>=2"])
    with pytest.raises(UserError, match=r"installs \['acme-rewards>=2'\].*set the environment variable WORLDR1_ALLOW"):
        make_environment(options)
    assert uv.calls() == []
    monkeypatch.setenv("WORLDR1_ALLOW_PACKAGES", "1")
    assert requirements(make_environment(options))[-1] == "acme-rewards>=2"


@pytest.mark.parametrize(
    "options",
    [
        {"packages": ["--index-url=http://example.org"]},
        {"packages": ["acme\n--index-url http://example.org"]},
        {"extras": ["da3 --index-url"]},
        {"extras": ["da3]; import os"]},
        {"python": "/bin/sh"},
        {"python": "3.11\n"},
    ],
)
def test_options_cannot_hold_options_of_uv(options):
    with pytest.raises(ValidationError):
        EnvironmentOptions(**options)


def test_a_failure_is_explained_and_tried_again(uv):
    uv.broken.touch()
    with pytest.raises(
        UserError, match=r"uv cannot make the environment of a worker \(venv --quiet\):\nno such Python"
    ):
        make_environment(EnvironmentOptions())
    assert made_environments() == []
    uv.broken.unlink()
    assert make_environment(EnvironmentOptions()).is_file()


def test_a_missing_uv_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="pip install uv"):
        make_environment(EnvironmentOptions())


def test_doctor_lists_the_environments(uv):
    assert "worker" not in examine(installed())["placements"]
    python = make_environment(EnvironmentOptions(extras=["da3"], python="3.11"))
    (row,) = examine(installed())["placements"]["worker"]
    folder = python.parents[2]
    assert row == {
        "environment": folder.name,
        "python": "3.11",
        "extras": ["da3"],
        "packages": [],
        "path": str(folder),
    }
    assert json.loads((folder / "ready.json").read_text())["python"] == "3.11"


def test_extras_without_requirements_are_no_extras_of_the_package():
    from importlib import metadata

    names = metadata.metadata("worldr1-rewards").get_all("Provides-Extra")
    assert not set(environments.WITHOUT_REQUIREMENTS) & set(names)
