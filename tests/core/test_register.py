"""Registering components in process: usable by name at once, never silently replaced."""

from __future__ import annotations

import pytest

from worldr1_core import register
from worldr1_core.compose import compose_scoring
from worldr1_core.errors import DuplicateNameError, PluginError, UnknownNameError, UserError
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.registry import Entry, Owner, Registry, unregister
from worldr1_core.reward import Reward


class Brightness(Reward):
    """Mean brightness."""

    def score(self, clip, inputs):
        return float(clip.video.frames.mean())


def spread(completions, **kwargs):
    """Standard deviation of the frames."""
    return [float(frames.std()) for frames in completions]


@pytest.fixture(autouse=True)
def _forget():
    installed.cache_clear()
    yield
    installed.cache_clear()


def score(name, clip):
    manifest = parse_manifest(f"version: 1\ndevice: cpu\nrewards: [{{name: {name}}}]", installed().registry)
    reward = compose_scoring(manifest, installed().registry).rewards[0].reward
    return reward.score(clip, None) if name == "brightness" else reward.score_batch([clip], [None])[0].value


def test_registered_class_is_found_by_a_manifest(make_clip):
    register("reward", "brightness", Brightness)
    clip = make_clip()
    assert score("brightness", clip) == float(clip.video.frames.mean())


def test_decorator_registers_and_returns_the_class():
    @register("reward", "dimness")
    class Dimness(Brightness):
        pass

    assert installed().registry.load("reward", "dimness") is Dimness


def test_registered_function_is_a_reward(make_clip):
    assert register("reward", "spread", spread) is spread
    clip = make_clip()
    assert score("spread", clip) == float(clip.video.frames.std())


def test_function_takes_no_options():
    register("reward", "spread", spread)
    text = "version: 1\nrewards: [{name: spread, scale: 2}]"
    with pytest.raises(UserError, match="unknown key 'scale'"):
        parse_manifest(text, installed().registry)


def test_name_that_this_process_registered_is_taken():
    register("reward", "brightness", Brightness)
    with pytest.raises(DuplicateNameError) as caught:
        register("reward", "brightness", Brightness)
    assert str(caught.value).count(f"this process (module {__name__!r})") == 2
    assert "replace=True" in str(caught.value)


def test_rerun_cell_replaces_its_own_registration():
    register("reward", "brightness", Brightness)

    class Brighter(Brightness):
        pass

    register("reward", "brightness", Brighter, replace=True)
    assert installed().registry.load("reward", "brightness") is Brighter


@pytest.mark.parametrize("replace", [False, True])
def test_name_of_a_plugin_is_never_replaced(replace):
    registry = Registry()
    registry.add(Entry("reward", "brightness", "acme:Reward", Owner("plugin", "acme-rewards", "2.0", "acme")))
    with pytest.raises(DuplicateNameError) as caught:
        registry.register("reward", "brightness", Brightness, replace=replace)
    assert "acme-rewards 2.0 (plugin 'plugin')" in str(caught.value)
    assert f"this process (module {__name__!r})" in str(caught.value)
    assert "replace=True" not in str(caught.value)


def test_unregister_forgets_a_name():
    register("reward", "brightness", Brightness)
    unregister("reward", "brightness")
    assert "brightness" not in installed().registry.names("reward")
    with pytest.raises(UnknownNameError):
        unregister("reward", "brightness")


def test_plugin_cannot_be_unregistered():
    registry = Registry()
    registry.add(Entry("reward", "brightness", "acme:Reward", Owner("plugin", "acme-rewards", "2.0", "acme")))
    with pytest.raises(UserError, match=r"registered by acme-rewards 2\.0"):
        registry.unregister("reward", "brightness")


@pytest.mark.parametrize(
    ("kind", "name", "component", "reason"),
    [
        ("rewards", "x", Brightness, "Unknown component kind 'rewards'.*Did you mean 'reward'"),
        ("reward", "", Brightness, "must be a non-empty string"),
        ("reward", "total", Brightness, "reserved"),
        ("reward", "x", Brightness(), "must be a class derived from worldr1_core.reward.Reward"),
        ("reward", "x", dict, "must be a class derived from worldr1_core.reward.Reward"),
        ("reward", "x", lambda prompts: [], "must take the keyword argument 'completions'"),
        ("judge", "x", spread, "must be a class derived from worldr1_core.judge.Judge"),
    ],
)
def test_what_cannot_be_registered_is_refused_at_once(kind, name, component, reason):
    with pytest.raises(PluginError, match=reason):
        register(kind, name, component)
    assert "x" not in installed().registry.names("reward")
