"""The commands of core: `plugins`, `schema`, `validate`."""

from __future__ import annotations

import json
import sys
import textwrap
from importlib import metadata

import click
import jsonschema
import pytest
from click.testing import CliRunner

from core.fake_components import COMPONENTS
from worldr1_core.cli import cli, main
from worldr1_core.commands.plugins import describe
from worldr1_core.plugins import Failure, Installed, installed
from worldr1_core.registry import Owner

PLUGIN = f"""
    from worldr1_core import hookimpl
    COMPONENTS = {COMPONENTS!r}

    @hookimpl
    def worldr1_register_rewards():
        return COMPONENTS["reward"]

    @hookimpl
    def worldr1_register_reconstructors():
        return COMPONENTS["reconstructor"]

    @hookimpl
    def worldr1_register_judges():
        return COMPONENTS["judge"]

    @hookimpl
    def worldr1_register_manifest_sections():
        return COMPONENTS["manifest section"]
"""


@pytest.fixture
def acme(site):
    site.add("acme-rewards", textwrap.dedent(PLUGIN))
    return site


@pytest.fixture
def run(acme):
    """Run a command in this process with the fake plugin installed."""
    return lambda *arguments: CliRunner().invoke(cli, list(arguments))


def test_plugins_json_tells_what_is_installed_from_where(run, acme):
    done = run("plugins", "--json")
    report = json.loads(done.stdout)
    mine = next(plugin for plugin in report["plugins"] if plugin["distribution"] == "acme-rewards")
    assert mine == {
        "plugin": "plugin",
        "distribution": "acme-rewards",
        "version": "1.2.3",
        "location": str(acme.path / "acme_rewards.py"),
        "summary": "A fake of the tests.",
    }
    assert {
        "kind": "reward",
        "name": "sharpness",
        "target": COMPONENTS["reward"]["sharpness"],
        "distribution": "acme-rewards",
    } in report["components"]
    assert report["conflicts"] == []
    assert {plugin["distribution"] for plugin in report["plugins"]} >= {"worldr1-core", "worldr1-rewards"}
    assert next(p for p in report["plugins"] if p["plugin"] == "core")["version"] == metadata.version("worldr1-core")


def test_plugins_table_has_every_component_on_one_line(run):
    lines = run("plugins").stdout.splitlines()
    assert any({"reward", "sharpness", "acme-rewards"} <= set(line.split()) for line in lines)
    assert not any("Failed to load" in line for line in lines)


def test_plugins_lists_a_name_that_is_registered_twice(run, acme):
    acme.add("zeta-rewards", textwrap.dedent(PLUGIN))
    installed.cache_clear()
    conflicts = json.loads(run("plugins", "--json").stdout)["conflicts"]
    sharpness = next(conflict for conflict in conflicts if conflict["name"] == "sharpness")
    assert [owner.split()[0] for owner in sharpness["owners"]] == ["acme-rewards", "zeta-rewards"]
    assert "Names registered twice" in run("plugins").stdout


def test_description_of_a_failed_plugin_imports_nothing_again(site):
    (site.path / "explosive").mkdir()
    (site.path / "explosive" / "__init__.py").write_text("raise SystemExit('boom')")
    owner = Owner("plugin", "absent-distribution", "?", "explosive.plugin")
    found = Installed(installed().registry, [], [Failure(owner, "SystemExit: boom")])
    failure = describe(found)["failures"][0]
    assert failure["error"] == "SystemExit: boom"
    assert failure["summary"] is None
    assert failure["location"] == str(site.path / "explosive" / "__init__.py")


@pytest.mark.parametrize("module", ["", "no_such_module_here.plugin", "not a module!"])
def test_location_is_unknown_where_nothing_can_be_found(module):
    found = Installed(installed().registry, [Owner("plugin", "", "?", module)])
    assert describe(found)["plugins"][0]["location"] is None


GROUP = """
    import click
    from worldr1_core import hookimpl
    from worldr1_core.errors import ScoreUnavailable

    @hookimpl
    def worldr1_register_commands():
        return {"greet": "greeter:greet", "broken": "no_such_module_here:x", "odd": "greeter:GROUP"}

    GROUP = 3

    @click.command()
    def greet():
        "Say hello."
        raise ScoreUnavailable("nobody is there")
"""


@pytest.fixture
def run_greeter(site):
    """Run the program in this process with commands that fail in every way."""
    site.add("greeter", GROUP)
    return lambda *arguments: CliRunner().invoke(cli, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["greet"], 1, "Error: nobody is there\n"),
        (["broken"], 2, "Command 'broken' of greeter 1.2.3 (plugin 'plugin') cannot be loaded"),
        (["odd"], 2, "must be a click command, received 3"),
        (["gret"], 2, "Did you mean 'greet'?"),
        (["--gret"], 2, "No such option"),
    ],
)
def test_command_that_cannot_run_says_why(run_greeter, arguments, code, message):
    done = run_greeter(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_help_keeps_broken_commands_in_the_list(run_greeter):
    done = run_greeter("--help")
    assert done.exit_code == 0
    assert done.stdout.count("cannot be loaded: Command '") >= 2
    assert "Say hello." in done.stdout


def test_program_runs_under_its_own_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anything.py", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"worldr1, version {metadata.version('worldr1-core')}\n"


def test_group_tells_no_command_that_is_not_registered():
    assert cli.get_command(click.Context(cli), "no-such-command") is None


def test_schema_prints_a_valid_schema_alone(run):
    done = run("schema")
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "reward.sharpness" in schema["$defs"]
    assert schema["properties"]["schooling"] == {"$ref": "#/$defs/section.schooling"}


def test_schema_leaves_out_what_cannot_be_imported(run, acme):
    acme.add(
        "gone-rewards",
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n"
        "    return {'gone': 'no_such_module_here:X'}",
    )
    installed.cache_clear()
    done = run("schema")
    assert done.exit_code == 0
    assert "reward.gone" not in json.loads(done.stdout)["$defs"]
    assert "component left out of the schema" in done.stderr
    assert "reward gone" in done.stderr


def test_validate_prints_what_it_found(run, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\nrewards: [{name: sharpness, weight: 2, radius: 3}]\nschooling: {steps: 2}\n")
    done = run("validate", str(path))
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "manifest": str(path),
        "valid": True,
        "components": [{"kind": "reward", "name": "sharpness", "weight": 2.0, "radius": 3}],
    }


def test_validate_tells_every_mistake_on_stderr(run, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\nsede: 2\nrewards: [{name: sharpness, radius: 9}]\nschooling: {steps: 0}\n")
    done = run("validate", str(path))
    assert done.exit_code == 2
    assert done.stdout == ""
    for line in (2, 3, 4):
        assert f"{path}:{line}: " in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: "),
        (b"", "the manifest is empty"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        (b"version: 1\n\tx: 2", "not valid YAML"),
    ],
)
def test_validate_refuses_what_is_no_manifest(run, tmp_path, content, message):
    path = tmp_path / "m.yaml"
    if content is not None:
        path.write_bytes(content)
    done = run("validate", str(path))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_does_not_hang_on_a_bomb(run, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(
        "a0: &a0 [x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 40))
    )
    done = run("validate", str(path))
    assert done.exit_code == 2
    assert "expands to more than" in done.stderr
