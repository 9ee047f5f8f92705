"""`worldr1 new-plugin`: the written package passes its own tests, and bad requests leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from worldr1_core.cli import cli
from worldr1_core.commands.new_plugin import KINDS, MAX_LENGTH, check_name, write_plugin
from worldr1_core.errors import OutputError, UserError
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed

LONGEST = "abc-defghijk-nopqrstuvwxyz"


def _python(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(path or folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


SLOW_KINDS = ["reconstructor", "judge"]
"""They go through the same code, and their tests take half a minute each."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW_KINDS else kind for kind in KINDS]
)
def test_the_written_package_passes_its_own_tests(tmp_path, kind):
    target, _ = write_plugin("my-idea", kind, tmp_path)
    run = _python(target, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


@pytest.mark.parametrize("name", ["x", LONGEST])
@pytest.mark.parametrize("kind", KINDS)
def test_the_written_package_is_clean(tmp_path, kind, name):
    target, _ = write_plugin(name, kind, tmp_path)
    for action in (["check"], ["format", "--check"]):
        run = _python(target, "-m", "ruff", *action, "--no-cache", ".")
        assert run.returncode == 0, run.stdout


def test_the_longest_name_of_these_tests_is_the_longest_allowed():
    assert len(LONGEST) == MAX_LENGTH
    with pytest.raises(UserError, match="at most 26"):
        check_name(LONGEST + "x", "reward")


def test_the_entry_point_names_the_module(tmp_path):
    target, files = write_plugin("worldr1-my-reward", "reward", tmp_path)
    assert target == tmp_path / "worldr1-my-reward"
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == files
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["worldr1"] == {"my-reward": "worldr1_my_reward"}
    assert "class MyReward(Reward)" in (target / "worldr1_my_reward.py").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_shows_a_manifest_that_names_it(tmp_path, kind, site):
    target, _ = write_plugin("my-idea", kind, tmp_path)
    site.add("worldr1-my-idea", (target / "worldr1_my_idea.py").read_text(encoding="utf-8"))
    installed.cache_clear()
    text = (target / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    names = [spec.name for _, found, spec in parse_manifest(text, installed().registry).components() if found == kind]
    assert "my-idea" in names


def test_the_program_answers_in_json_and_reports_what_to_do_next(tmp_path):
    result = CliRunner().invoke(cli, ["new-plugin", "sharp-edges", "--kind", "judge", "--dir", str(tmp_path)])
    answer = json.loads(result.stdout)
    assert (tmp_path / "worldr1-sharp-edges").is_dir()
    assert answer["kind"] == "judge"
    assert answer["next"][0].startswith("pip install -e ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("My Reward", "Try 'my-reward'"),
        ("my_reward", "Try 'my-reward'"),
        ("3d", "Try 'd'"),
        ("", "received ''"),
        ("../evil", "Try 'evil'"),
        ("-x", "Try 'x'"),
        ("ünïcode", "received"),
        ("core", "one of our own packages"),
        ("worldr1-rewards", "one of our own packages"),
    ],
)
def test_bad_names_are_refused_and_leave_nothing(tmp_path, name, hint):
    result = CliRunner().invoke(cli, ["new-plugin", "--dir", str(tmp_path), "--", name])
    assert result.exit_code == 2
    assert hint in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_registered_is_refused(tmp_path, site):
    source = """
        from worldr1_core import hookimpl
        @hookimpl
        def worldr1_register_rewards():
            return {"shiny": "acme:Shiny"}
    """
    site.add("acme-shiny", source)
    with pytest.raises(UserError, match=r"registered by acme-shiny 1\.2\.3"):
        write_plugin("shiny", "reward", tmp_path)
    assert check_name("shiny", "judge") == "shiny"


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "worldr1-mine").mkdir()
    (tmp_path / "worldr1-mine" / "work.txt").write_text("precious")
    result = CliRunner().invoke(cli, ["new-plugin", "mine", "--dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert (tmp_path / "worldr1-mine" / "work.txt").read_text() == "precious"


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        write_plugin("mine", "reward", tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_nothing_is_left_where_writing_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", _no_space)
    with pytest.raises(OutputError, match="No space left"):
        write_plugin("mine", "reward", tmp_path)
    assert list(tmp_path.iterdir()) == []


def _no_space(*_args, **_options):
    raise OSError(28, "No space left on device")


@pytest.mark.slow
def test_an_installed_package_is_found_composed_and_passes(tmp_path):
    target, _ = write_plugin("my-idea", "reward", tmp_path)
    site = tmp_path / "site"
    install = [
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--python",
        sys.executable,
        "--target",
        str(site),
        str(target),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    tests = _python(target, "-m", "pytest", "-q", "-p", "no:cacheprovider", path=site)
    assert tests.returncode == 0, tests.stdout
    listed = _python(tmp_path, "-c", "from worldr1_core.cli import main; main()", "plugins", "--json", path=site)
    components = json.loads(listed.stdout)["components"]
    assert {"worldr1-my-idea"} == {c["distribution"] for c in components if c["name"] == "my-idea"}
    compose = (
        "from worldr1_core.compose import compose_scoring; from worldr1_core.manifest import parse_manifest;"
        "from worldr1_core.plugins import installed; registry = installed().registry; "
        "manifest = parse_manifest('{version: 1, rewards: [{name: my-idea, brightness: 0.25}]}', registry);"
        "print(compose_scoring(manifest, registry).rewards[0].reward.config.brightness)"
    )
    composed = _python(tmp_path, "-c", compose, path=site)
    assert composed.stdout.strip() == "0.25", composed.stderr
