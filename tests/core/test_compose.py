"""Composition: components are configured, put on a device, and only what is read is built."""

from __future__ import annotations

import pytest
import torch

from core.fake_components import COMPONENTS, HERE, Grader, Scene, Sharpness, Steps
from worldr1_core.compose import build, compose_scoring, resolve_device
from worldr1_core.errors import ManifestError, MissingExtraError, PluginError, UnknownNameError, UserError
from worldr1_core.judge import Judge
from worldr1_core.manifest import ComponentSpec, parse_manifest
from worldr1_core.reward import Reward

ALL = """\
version: 1
device: cpu
reconstructor: {name: steps, fine: 8}
judge: {name: grader}
rewards:
- {name: sharpness, weight: 2, radius: 3}
- {name: scene}
- {name: opinion, question: Why}
"""


@pytest.fixture
def registry(make_registry):
    return make_registry(COMPONENTS)


def compose(text, registry, only=None):
    return compose_scoring(parse_manifest(text, registry), registry, only=only)


def test_everything_is_built_with_its_options(registry):
    built = compose(ALL, registry)
    assert [(r.name, r.weight, type(r.reward)) for r in built.rewards][:2] == [
        ("sharpness", 2.0, Sharpness),
        ("scene", 1.0, Scene),
    ]
    assert built.rewards[0].reward.config.radius == 3
    assert isinstance(built.reconstructor, Steps)
    assert built.reconstructor.config.fine == 8
    assert isinstance(built.judge, Grader)
    assert {part.device for part in (built.reconstructor, built.judge, built.rewards[0].reward)} == {"cpu"}


def test_what_no_reward_reads_is_not_built(registry):
    built = compose(ALL, registry, only=["sharpness"])
    assert (built.reconstructor, built.judge) == (None, None)


def test_only_sets_the_order_and_drops_repeats(registry):
    names = [r.name for r in compose(ALL, registry, only=["scene", "sharpness", "scene"]).rewards]
    assert names == ["scene", "sharpness"]


def test_only_keeps_the_options_of_the_manifest(registry):
    assert compose(ALL, registry, only=iter(["sharpness"])).rewards[0].reward.config.radius == 3


def test_only_may_name_a_reward_that_the_manifest_does_not_list(registry):
    added = compose("version: 1", registry, only=["sharpness"]).rewards[0]
    assert (added.weight, added.reward.config.radius) == (1.0, 1.0)


def test_only_as_one_word_is_one_name(registry):
    assert [r.name for r in compose(ALL, registry, only="sharpness").rewards] == ["sharpness"]


@pytest.mark.parametrize("name", ["sharpnes", ""])
def test_unknown_name_in_only(registry, name):
    with pytest.raises(UnknownNameError, match=r"Unknown reward .*Installed: \['opinion', 'scene', 'sharpness'\]"):
        compose(ALL, registry, only=["scene", name])


def test_option_that_is_needed_but_not_given(registry):
    with pytest.raises(UserError, match="Options of Opinion: key 'question' is missing"):
        compose("version: 1\njudge: {name: grader}", registry, only=["opinion"])


@pytest.mark.parametrize("only", [None, []])
def test_no_reward_is_an_error(registry, only):
    with pytest.raises(ManifestError, match="No reward to score with"):
        compose("version: 1", registry, only=only)


@pytest.mark.parametrize(
    ("reward", "part", "installed"), [("scene", "reconstructor", "steps"), ("opinion", "judge", "grader")]
)
def test_part_that_is_read_but_not_named(registry, reward, part, installed):
    text = "version: 1\nrewards: [{name: scene}, {name: opinion, question: Why}]"
    with pytest.raises(ManifestError) as caught:
        compose(text, registry, only=[reward])
    assert f"Reward '{reward}' requires a {part}, and the manifest names none" in str(caught.value)
    assert f"installed: ['{installed}']" in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("Unfinished", "cannot be set up: TypeError: .*abstract method"),
        ("BreaksOnSetUp", "cannot be set up: KeyError: 'weights'"),
        ("Grader", "must be a class derived from worldr1_core.reward.Reward"),
    ],
)
def test_reward_that_breaks_its_contract_names_its_owner(make_registry, attribute, reason):
    registry = make_registry({"reward": {"thing": f"{HERE}:{attribute}"}})
    with pytest.raises(PluginError, match=rf"Reward 'thing' of acme-rewards .*{reason}"):
        build(ComponentSpec(name="thing"), "reward", Reward, registry, "cpu")


def test_interface_may_be_narrower_than_the_kind(registry):
    with pytest.raises(PluginError, match=r"Backbone .* must be a class derived from worldr1_core\.judge\.Judge"):
        build(ComponentSpec(name="tree/of ~life"), "backbone", Judge, registry, "cpu")


def test_missing_extra_passes_through_with_its_command(make_registry):
    registry = make_registry({"reward": {"thing": f"{HERE}:NeedsExtra"}})
    with pytest.raises(MissingExtraError, match=r"pip install 'acme-rewards\[gpu\]'"):
        build(ComponentSpec(name="thing"), "reward", Reward, registry, "cpu")


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_where_there_is_one(monkeypatch, available, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto") == device


def test_cpu_is_always_there():
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_absent_cuda_is_an_error(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"Device '{device}' was requested, but torch .* sees no CUDA device"):
        resolve_device(device)


def test_absent_mps_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="sees no MPS device"):
        resolve_device("mps")


def test_index_of_a_device_must_exist(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_device("cuda") == "cuda"
    with pytest.raises(UserError, match="Device 'cuda:2' was requested, but torch sees 2: cuda:0 to cuda:1"):
        resolve_device("cuda:2")


def test_mps_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps") == "mps"
