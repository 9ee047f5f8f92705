"""The `worldr1` program in its own process: start-up, exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

PROBE = """
import sys
try:
    from worldr1_core.cli import main
    main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""

COMMAND = """
    import click
    from worldr1_core import hookimpl
    from worldr1_core.errors import ScoreUnavailable, VideoError

    @hookimpl
    def worldr1_register_commands():
        return {
            "greet": "greeter:greet",
            "broken": "absent_module_of_the_test:command",
            "odd": "greeter:NOT_A_COMMAND",
        }

    @hookimpl
    def worldr1_register_aliases():
        return {"command": {"salute": "greet"}}

    NOT_A_COMMAND = 3

    @click.command()
    @click.argument("how", default="well")
    def greet(how):
        "Say hello."
        if how == "badly":
            raise VideoError("the greeting is no video")
        if how == "not":
            raise ScoreUnavailable("nobody is there")
        if how == "crash":
            raise RuntimeError("a bug")
        click.echo('{"hello": "world"}')
"""


@pytest.fixture
def greeter(site):
    site.add("greeter", COMMAND)
    return site


def cpu_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", "from worldr1_core.cli import main; main()", "--help"], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def test_help_takes_less_than_half_a_second_of_cpu():
    assert cpu_of_help() < 0.5 or cpu_of_help() < 0.5  # once more, for the first run may compile bytecode


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plugins", "--json"]])
def test_light_commands_import_nothing_heavy(arguments):
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
    modules = set(eval(done.stderr.splitlines()[-1]))
    assert "worldr1_core" in modules
    assert not modules & {"torch", "transformers", "lpips", "numpy", "PIL", "av", "matplotlib", "openai", "pydantic"}
    assert arguments[0] == "plugins" or not modules & {"structlog", "rich"}


def test_help_lists_every_command_also_one_that_cannot_be_loaded(greeter, run_worldr1):
    done = run_worldr1("--help", site=greeter)
    assert done.returncode == 0
    for name in ("plugins", "schema", "validate", "score", "greet"):
        assert name in done.stdout
    assert "Say hello." in done.stdout
    assert "salute" not in done.stdout
    text = " ".join(done.stdout.split())
    assert "broken cannot be loaded: Command 'broken' of greeter 1.2.3" in text
    assert "odd cannot be loaded: Command 'odd' of greeter 1.2.3" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["greet"], 0, ""),
        (["salute"], 0, "FutureWarning: Command 'salute' is now called 'greet'."),
        (["greet", "badly"], 2, "Error: the greeting is no video\n"),
        (["greet", "not"], 1, "Error: nobody is there\n"),
        (["greet", "--loudly"], 2, "No such option"),
        (["broken"], 2, "No module named 'absent_module_of_the_test'"),
        (["odd"], 2, "Command 'odd' of greeter 1.2.3 (plugin 'plugin') must be a click command, received 3."),
        (["greeet"], 2, "Unknown command 'greeet'. Installed: ["),
        (["greeet"], 2, "Did you mean 'greet'?"),
        (["--loudly"], 2, "No such option"),
        (["--log-level", "loud", "greet"], 2, "Invalid value for '--log-level'"),
    ],
)
def test_exit_code_and_message(greeter, run_worldr1, arguments, code, message):
    done = run_worldr1(*arguments, site=greeter)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ('{"hello": "world"}\n' if code == 0 else "")


def test_bug_is_a_failure_with_its_traceback(greeter, run_worldr1):
    done = run_worldr1("greet", "crash", site=greeter)
    assert done.returncode == 1
    assert "RuntimeError: a bug" in done.stderr
    assert done.stdout == ""


def test_no_arguments_show_the_help_and_exit_2(run_worldr1):
    done = run_worldr1()
    assert done.returncode == 2
    assert "Usage: worldr1" in done.stdout + done.stderr


def test_module_name_does_not_show_in_the_usage(run_worldr1):
    assert run_worldr1("--version").stdout.startswith("worldr1, version ")


def test_broken_plugin_is_listed_with_its_reason_and_stops_nothing(site, run_worldr1):
    site.add("bad-plugin", "import sys\nprint('noise on stdout')\nsys.exit('pip install \\'bad-plugin[gpu]\\' [/red]')")
    done = run_worldr1("plugins", site=site)
    assert done.returncode == 0
    assert "SystemExit: pip install 'bad-plugin[gpu]' [/red]" in done.stdout
    assert "noise on stdout" not in done.stdout
    assert "noise on stdout" in done.stderr
    assert "worldr1-core" in done.stdout


def test_help_stays_clean_beside_a_broken_plugin(site, run_worldr1):
    site.add("bad-plugin", "print('noise')\nraise RuntimeError('no luck')")
    done = run_worldr1("--help", site=site)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: worldr1 [OPTIONS] COMMAND")
    assert "no luck" not in done.stdout
    assert "no luck" in done.stderr


def test_json_stays_pure_beside_a_broken_plugin(site, run_worldr1):
    site.add("bad-plugin", "print('noise')\nraise RuntimeError('no luck')")
    done = run_worldr1("plugins", "--json", site=site)
    report = json.loads(done.stdout)
    assert [(f["distribution"], f["version"], f["error"]) for f in report["failures"]] == [
        ("bad-plugin", "1.2.3", "RuntimeError: no luck")
    ]
    assert "plugin failed to load" in done.stderr


def test_json_log_lines_parse(site, run_worldr1):
    site.add("bad-plugin", "raise RuntimeError('no luck')")
    done = run_worldr1("--log-json", "plugins", "--json", site=site)
    json.loads(done.stdout)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("plugin failed to load", "warning")]
    assert lines[0]["error"] == "RuntimeError: no luck"


def test_log_level_reaches_discovery(site, run_worldr1):
    site.add("bad-plugin", "raise RuntimeError('no luck')")
    done = run_worldr1("--log-level", "error", "plugins", "--json", site=site)
    assert done.stderr == ""
    assert json.loads(done.stdout)["failures"]


def test_two_plugins_of_one_command_are_an_error_for_that_command_only(greeter, run_worldr1):
    greeter.add("rival", COMMAND.replace("greeter:", "rival:"))
    done = run_worldr1("greet", site=greeter)
    assert done.returncode == 2
    assert "registered by greeter 1.2.3" in done.stderr
    assert "rival 1.2.3" in done.stderr
    listed = run_worldr1("plugins", site=greeter)
    assert listed.returncode == 0
    assert "Names registered twice" in listed.stdout


def test_closed_pipe_is_quiet(site):
    """As `worldr1 plugins | head -1`, with more output than a pipe holds."""
    names = ", ".join(f"'reward-{number}': 'many:Reward'" for number in range(2000))
    site.add(
        "many", f"from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    return {{{names}}}"
    )
    command = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
    for arguments in (["plugins"], ["plugins", "--json"]):
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(site.path)},
        )
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        process.wait(timeout=30)
