"""Each check of the plugin kit passes on a good module and fails on the one that breaks it."""

from __future__ import annotations

import textwrap

import pytest

from worldr1_core.errors import UserError
from worldr1_core.testing import ConformanceError, check_plugin, plugin_checks

REWARD = """
from worldr1_core import hookimpl
from worldr1_core.reward import Reward

class Shiny(Reward):
    def score(self, clip, inputs):
        return 0.5

@hookimpl
def worldr1_register_rewards():
    return {"shiny": "acme_shiny:Shiny"}
"""

MUTANTS = {
    "raises at import": ("loads", "1 / 0"),
    "no hook": ("loads", "x = 1"),
    "registers nothing": ("loads", REWARD.replace('{"shiny": "acme_shiny:Shiny"}', "{}")),
    "misspelt hook": ("loads", REWARD.replace("register_rewards", "register_reward")),
    "capitals": ("names", REWARD.replace('"shiny"', '"Shiny Reward"')),
    "no such class": ("targets", REWARD.replace(":Shiny", ":Shinny")),
    "no reward": ("targets", REWARD.replace("Shiny(Reward)", "Shiny")),
    "no command": ("targets", REWARD.replace("register_rewards", "register_commands")),
    "imports torch": ("light-import", "import torch\n" + REWARD),
    "prints": ("light-import", "print('hello')\n" + REWARD),
    "taken name": ("no-clash", REWARD),
    "no entry point": ("entry-point", REWARD),
}
"""What is wrong -> (check, source of the module)."""


def _run(module="acme_shiny", **arguments):
    try:
        return check_plugin(module, **arguments)
    except ConformanceError as error:
        return error.report


def test_a_good_plugin_passes_every_check(site):
    site.add("acme-shiny", REWARD)
    report = check_plugin("acme_shiny")
    assert len(report.passed) == len(plugin_checks("acme_shiny"))


def test_a_module_that_is_only_on_the_path_skips_the_entry_point(site):
    (site.path / "acme_loose.py").write_text(REWARD.replace("acme_shiny", "acme_loose"))
    site.modules.add("acme_loose")
    assert "only on the path" in check_plugin("acme_loose").skipped["entry-point"]


@pytest.mark.parametrize("wrong", MUTANTS)
def test_the_broken_plugin_fails_its_check(site, wrong):
    name, source = MUTANTS[wrong]
    site.add("acme-shiny", source, entry_points="[other]\nx = acme_shiny\n" if wrong == "no entry point" else None)
    if wrong == "no entry point":
        record = site.path / "acme_shiny-1.2.3.dist-info" / "top_level.txt"
        record.write_text("acme_shiny\n")
    if wrong == "taken name":
        site.add("acme-other", REWARD.replace("acme_shiny", "acme_other"))
    failed = _run().failed
    assert name in failed
    also = {"targets", "light-import"} if wrong == "raises at import" else set()
    assert failed.keys() - {name} <= also, failed


def test_every_check_has_a_broken_plugin():
    assert {name for name, _ in MUTANTS.values()} == {check.name for check in plugin_checks("acme_shiny")}


def test_a_failed_light_import_says_which_error(site):
    site.add("acme-shiny", textwrap.dedent("raise RuntimeError('needs a GPU')"))
    assert "RuntimeError: needs a GPU" in _run().failed["light-import"]


@pytest.mark.parametrize("module", ["acme shiny", "acme_shiny:Shiny", 3, ""])
def test_something_else_than_a_module_is_refused(module):
    with pytest.raises(UserError, match="Expected the name of a module"):
        plugin_checks(module)


def test_our_own_core_plugin_passes():
    assert "light-import" in check_plugin("worldr1_core.plugin").passed
