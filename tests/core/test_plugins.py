"""Discovery: every plugin is loaded by itself, and whatever is wrong with one is told and stops nothing."""

from __future__ import annotations

import textwrap
from importlib.metadata import EntryPoint

import pytest

from worldr1_core.errors import DuplicateNameError
from worldr1_core.plugins import Installed, discover, installed

GOOD = """
    from worldr1_core import hookimpl

    @hookimpl
    def worldr1_register_rewards():
        return {"brightness": "good_plugin:Brightness"}
"""


def of(found: Installed, distribution: str) -> list[str]:
    """The reasons why a distribution failed."""
    return [failure.error for failure in found.failures if failure.owner.distribution == distribution]


BROKEN = {
    "raises at import": ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    "raises without a message": ("raise RuntimeError", "RuntimeError"),
    "syntax error": ("def broken(:\n    pass", "SyntaxError: "),
    "exits at import": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "imports what is absent": ("import no_such_module_here", "No module named 'no_such_module_here'"),
    "no hook at all": ("def worldr1_register_rewards():\n    return {}", "implements no hook"),
    "misspelt hook": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_reward():\n    return {}",
        "unknown hook 'worldr1_register_reward'",
    ),
    "hook with an argument that is not offered": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards(config):\n    return {}",
        "config",
    ),
    "hook returns a list": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    return ['a']",
        "worldr1_register_rewards must return a mapping name -> 'module:attribute', received ['a']",
    ),
    "hook raises": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    return 1 / 0",
        "ZeroDivisionError",
    ),
    "hook exits": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    raise SystemExit",
        "SystemExit",
    ),
    "aliases of no kind": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_aliases():\n    return {'old': 'new'}",
        "worldr1_register_aliases must return a mapping kind -> {old name: new name}, received {'old': 'new'}",
    ),
    "alias of a component of somebody else": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_aliases():\n"
        "    return {'reward': {'old': 'trajectory'}}",
        "maps 'old' to 'trajectory', which is not a reward of this plugin. Allowed: []",
    ),
    "alias that is still registered": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    return {'a': 'm:a'}\n"
        "@hookimpl\ndef worldr1_register_aliases():\n    return {'reward': {'a': 'a'}}",
        "calls 'a' an old name, and the plugin registers it as a reward",
    ),
    "target without an attribute": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    return {'a': 'module'}",
        "The target of reward 'a' must be 'module:attribute', received 'module'",
    ),
    "target that is a class": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_judges():\n    return {'a': int}",
        "must be 'module:attribute', received <class 'int'>",
    ),
    "name that is not text": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_judges():\n    return {3: 'a:b'}",
        "name must be a non-empty string, received 3",
    ),
    "section named as a key of core": (
        "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_manifest_sections():\n"
        "    return {'rewards': 'a:b'}",
        "The name 'rewards' is reserved",
    ),
    "error that cannot be printed": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute",
        "Mute: (its message cannot be shown)",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_plugin_is_reported_and_stops_nothing(site, source, reason):
    site.add("bad-plugin", source)
    site.add("good-plugin", GOOD)
    found = discover()
    assert len(of(found, "bad-plugin")) == 1
    assert reason in of(found, "bad-plugin")[0]
    assert found.registry.find("reward", "brightness").owner.distribution == "good-plugin"
    assert "bad-plugin" not in [owner.distribution for owner in found.plugins]


def test_working_plugin_is_listed_with_its_distribution(site):
    site.add("good-plugin", GOOD, version="4.5")
    found = discover()
    owner = next(owner for owner in found.plugins if owner.distribution == "good-plugin")
    assert (owner.plugin, owner.version, owner.module) == ("plugin", "4.5", "good_plugin")
    assert str(owner) == "good-plugin 4.5 (plugin 'plugin')"
    assert of(found, "good-plugin") == []


def test_misspelt_hook_suggests_the_right_one(site):
    site.add("bad-plugin", BROKEN["misspelt hook"][0])
    assert "Did you mean 'worldr1_register_rewards'?" in of(discover(), "bad-plugin")[0]


def test_keyboard_interrupt_at_import_passes_through(site):
    site.add("bad-plugin", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover()


def test_half_registered_plugin_leaves_nothing_behind(site):
    site.add(
        "bad-plugin",
        """
        from worldr1_core import hookimpl

        @hookimpl
        def worldr1_register_rewards():
            return {"fine": "bad_plugin:Fine"}

        @hookimpl
        def worldr1_register_judges():
            return {"wrong": "no target"}
        """,
    )
    found = discover()
    assert "fine" not in found.registry.names("reward")
    assert len(of(found, "bad-plugin")) == 1


def test_hook_that_returns_none_registers_nothing(site):
    site.add("quiet-plugin", "from worldr1_core import hookimpl\n@hookimpl\ndef worldr1_register_rewards():\n    pass")
    found = discover()
    assert "quiet-plugin" in [owner.distribution for owner in found.plugins]


def test_missing_attribute_of_an_entry_point_is_reported(site):
    site.add("bad-plugin", GOOD, module="bad_plugin", entry_points="[worldr1]\nplugin = bad_plugin:absent\n")
    assert "AttributeError" in of(discover(), "bad-plugin")[0]


def test_entry_point_that_is_no_reference_is_reported(site):
    site.add("bad-plugin", GOOD, entry_points="[worldr1]\nplugin = this is no module!\n")
    site.add("good-plugin", GOOD)
    found = discover()
    assert "must be 'module' or 'module:attribute', received 'this is no module!'" in of(found, "bad-plugin")[0]
    assert "brightness" in found.registry.names("reward")


def test_entry_point_may_name_an_object_of_a_module(site):
    source = """
        from worldr1_core import hookimpl

        class Plugin:
            @hookimpl
            def worldr1_register_rewards(self):
                return {"warmth": "object_plugin:Warmth"}

        plugin = Plugin()
    """
    site.add("object-plugin", source, entry_points="[worldr1]\nplugin = object_plugin:plugin\n")
    assert discover().registry.find("reward", "warmth").owner.module == "object_plugin"


def test_corrupt_entry_points_of_another_package_hide_nothing(site):
    site.add("corrupt", None, entry_points="[worldr1]\nno equals sign here\n")
    site.add("good-plugin", GOOD)
    found = discover()
    assert "brightness" in found.registry.names("reward")
    assert len(of(found, "corrupt")) == 1


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["absent", "not text"])
def test_plugin_without_readable_metadata_still_loads(site, content):
    site.add("good-plugin", GOOD)
    file = site.path / "good_plugin-1.2.3.dist-info" / "METADATA"
    file.unlink() if content is None else file.write_bytes(content)
    found = discover()
    assert found.registry.find("reward", "brightness").owner.distribution == "unknown distribution"


def test_distribution_earlier_on_the_path_shadows_a_later_one(site, tmp_path, monkeypatch):
    site.add("good-plugin", GOOD, version="1.0")
    later = tmp_path / "later"
    later.mkdir()
    type(site)(later).add("Good_Plugin", GOOD.replace("brightness", "stale"), module="stale_plugin", version="0.9")
    monkeypatch.syspath_prepend(str(later))
    monkeypatch.syspath_prepend(str(site.path))
    names = discover().registry.names("reward")
    assert "brightness" in names
    assert "stale" not in names


def test_what_a_plugin_prints_while_loading_goes_to_stderr(site, capsys):
    site.add("good-plugin", "print('hello from the plugin')\n" + textwrap.dedent(GOOD))
    discover([EntryPoint("plugin", "good_plugin", "worldr1")])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello from the plugin" in captured.err


def test_two_plugins_of_one_name_are_an_error_only_when_the_name_is_used(site):
    for number in ("one", "two"):
        site.add(f"plugin-{number}", GOOD)
    found = discover()
    assert len(found.plugins) >= 2
    assert [entry.name for entry in found.registry.conflicts()[0]] == ["brightness", "brightness"]
    with pytest.raises(DuplicateNameError, match=r"plugin-one 1\.2\.3 .* and plugin-two 1\.2\.3"):
        found.registry.find("reward", "brightness")


def test_entry_points_can_be_given(site):
    site.add("good-plugin", GOOD)
    found = discover([EntryPoint("mine", "good_plugin", "worldr1")] * 2)
    assert [owner.plugin for owner in found.plugins] == ["mine"]
    assert found.plugins[0].distribution == "unknown distribution"
    assert found.registry.names("reward") == ["brightness"]
    assert found.registry.names("command") == []


def test_no_entry_points_give_an_empty_registry():
    found = discover([])
    assert found.registry.entries() == []
    assert (found.plugins, found.failures) == ([], [])


def test_discovery_is_made_once_a_process(site):
    assert installed() is installed()


def test_order_of_entry_points_does_not_matter(site):
    for number in ("b", "a", "c"):
        site.add(f"plugin-{number}", GOOD.replace("brightness", number))
    points = [EntryPoint("p", f"plugin_{number}", "worldr1") for number in "abc"]
    assert discover(points).plugins == discover(reversed(points)).plugins
