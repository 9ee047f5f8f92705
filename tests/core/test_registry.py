"""The registry: names to classes, with their owner."""

from __future__ import annotations

import sys

import pytest

from worldr1_core.errors import DuplicateNameError, MissingExtraError, PluginError, UnknownNameError
from worldr1_core.manifest import Manifest
from worldr1_core.registry import ALIAS_HOOK, KINDS, RESERVED, Alias, Entry, Owner, Registry

OWNER = Owner("plugin", "acme-rewards", "2.0", "acme_rewards")


def entry(target: str, name: str = "thing", kind: str = "reward") -> Entry:
    return Entry(kind, name, target, OWNER)


def test_load_imports_the_attribute():
    assert entry("collections:OrderedDict").load() is __import__("collections").OrderedDict


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import absent_module_of_the_test", "No module named 'absent_module_of_the_test'"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("x = 1", "has no attribute 'Thing'"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_load_failure_names_component_owner_and_reason(site, source, reason):
    site.add("acme-rewards", source)
    with pytest.raises(PluginError) as caught:
        entry("acme_rewards:Thing").load()
    assert "Reward 'thing' of acme-rewards 2.0 (plugin 'plugin') cannot be loaded" in str(caught.value)
    assert reason in str(caught.value)
    assert "Update or uninstall 'acme-rewards'" in str(caught.value)


def test_missing_extra_is_told_as_such(site):
    site.add(
        "acme-rewards",
        "from worldr1_core.errors import require\nrequire('absent_module', extra='acme-rewards[gpu]')",
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'acme-rewards\[gpu\]'"):
        entry("acme_rewards:Thing").load()


def test_keyboard_interrupt_during_load_passes_through(site):
    site.add("acme-rewards", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        entry("acme_rewards:Thing").load()


def test_what_a_component_prints_at_import_goes_to_stderr(site, capsys):
    site.add("acme-rewards", "print('loud')\nThing = 1")
    assert entry("acme_rewards:Thing").load() == 1
    assert capsys.readouterr() == ("", "loud\n")


def test_add_imports_nothing():
    registry = Registry()
    registry.add(entry("antigravity:fly"))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("target", ["module", ":attribute", "module:", "a:b:c", "", None, 3])
def test_target_must_be_a_reference(target):
    with pytest.raises(PluginError, match="must be 'module:attribute'"):
        Registry().add(entry(target))


@pytest.mark.parametrize("name", ["", None, 3])
def test_name_must_be_text(name):
    with pytest.raises(PluginError, match="must be a non-empty string"):
        Registry().add(entry("a:b", name=name))


def test_unknown_kind_lists_the_kinds():
    with pytest.raises(PluginError, match="Unknown component kind 'colour'"):
        Registry().add(entry("a:b", kind="colour"))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in RESERVED.items() for name in sorted(names)])
def test_reserved_names_cannot_be_registered(kind, name):
    with pytest.raises(PluginError, match="is reserved"):
        Registry().add(entry("a:b", name=name, kind=kind))


def test_every_key_of_the_manifest_is_reserved():
    assert RESERVED["manifest section"] == set(Manifest.model_fields)


def test_unknown_name_suggests_the_closest(make_registry):
    registry = make_registry({"reward": {"reconstruction": "a:b", "trajectory": "a:c"}})
    with pytest.raises(UnknownNameError) as caught:
        registry.find("reward", "reconstuction")
    assert str(caught.value) == (
        "Unknown reward 'reconstuction'. Installed: ['reconstruction', 'trajectory']. Did you mean 'reconstruction'?"
    )


def test_unknown_name_far_from_all_suggests_nothing(make_registry):
    with pytest.raises(UnknownNameError, match=r"Installed: \['trajectory'\]\.$"):
        make_registry({"reward": {"trajectory": "a:c"}}).find("reward", "zzz")


def test_kinds_do_not_mix(make_registry):
    registry = make_registry({"reward": {"thing": "a:b"}, "judge": {"thing": "c:d"}})
    assert registry.find("judge", "thing").target == "c:d"
    assert registry.conflicts() == []


def test_duplicate_name_is_an_error_that_names_both_owners(make_registry):
    registry = make_registry({"reward": {"thing": "a:b", "other": "a:b"}})
    registry.add(Entry("reward", "thing", "c:d", Owner("plugin", "zeta", "0.1", "zeta")))
    with pytest.raises(DuplicateNameError, match=r"acme-rewards 2\.0 .* and zeta 0\.1 .*Uninstall one of them"):
        registry.load("reward", "thing")
    assert registry.find("reward", "other").target == "a:b"
    assert registry.names("reward") == ["other", "thing"]


def test_entries_are_ordered_by_kind_then_name(make_registry):
    registry = make_registry({"judge": {"b": "a:b"}, "reward": {"z": "a:b", "a": "a:b"}})
    assert [(e.kind, e.name) for e in registry.entries()] == [("reward", "a"), ("reward", "z"), ("judge", "b")]


def test_every_kind_has_a_documented_hook():
    from worldr1_core import hookspecs

    for hook in (*KINDS.values(), ALIAS_HOOK):
        specification = getattr(hookspecs, hook)
        assert specification.__doc__
        assert specification() == {}
    declared = {name for name in vars(hookspecs) if name.startswith("worldr1_")}
    assert declared == {*KINDS.values(), ALIAS_HOOK}


def aliased(**aliases: str) -> Registry:
    registry = Registry()
    registry.add(entry("collections:OrderedDict", "new"))
    for old, new in aliases.items():
        registry.add_alias(Alias("reward", old, new, OWNER))
    return registry


def test_an_alias_finds_the_component_under_its_new_name_and_warns():
    registry = aliased(old="new")
    with pytest.warns(FutureWarning, match=r"Reward 'old' is now called 'new'\. .*write 'new'"):
        assert registry.find("reward", "old").name == "new"
    with pytest.warns(FutureWarning):
        assert registry.load("reward", "old") is __import__("collections").OrderedDict


def test_an_alias_is_known_but_not_listed():
    registry = aliased(old="new")
    assert registry.has("reward", "old")
    assert registry.has("reward", "new")
    assert not registry.has("reward", "other")
    assert not registry.has("judge", "old")
    assert registry.names("reward") == ["new"]
    assert [one.name for one in registry.entries()] == ["new"]


def test_a_registered_name_goes_before_an_alias(recwarn):
    registry = aliased(old="new")
    registry.add(entry("a:b", "old"))
    assert registry.find("reward", "old").target == "a:b"
    assert not recwarn.list


def test_an_old_name_of_two_components_is_an_error_that_names_both():
    registry = aliased(old="new")
    registry.add_alias(Alias("reward", "old", "other", Owner("plugin", "zeta", "0.1", "zeta")))
    with pytest.raises(DuplicateNameError, match=r"'old' is an old name of 'new' of acme-rewards .* 'other' of zeta"):
        registry.find("reward", "old")


@pytest.mark.parametrize(
    ("kind", "old", "problem"),
    [("rewards", "old", "Unknown component kind"), ("reward", "", "non-empty"), ("reward", "total", "not reserved")],
)
def test_an_alias_of_a_wrong_form_is_refused(kind, old, problem):
    with pytest.raises(PluginError, match=problem):
        Registry().add_alias(Alias(kind, old, "new", OWNER))
