"""Failures of every kit alike: components that raise, and arguments of the wrong form."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest

from samplers.toy import ToyScheduler
from testing_kit import raising_components
from worldr1_core import testing
from worldr1_core.errors import UserError
from worldr1_core.testing import CheckFailed, ConformanceError


@dataclass(frozen=True)
class Kit:
    check: Any
    checks: Any
    raising: type
    method: str
    known: str
    article: str = "a"
    arguments: dict = field(default_factory=dict)

    def report(self, component, **arguments):
        with pytest.raises(ConformanceError) as raised:
            self.check(component, **self.arguments, **arguments)
        return raised.value.report

    @property
    def place(self) -> str:
        """Where the component raises, as messages show it."""
        method = getattr(self.raising, self.method)
        return f"{inspect.getsourcefile(method)}:{inspect.getsourcelines(method)[1] + 1}, in {self.method}"


KITS = {
    "Backbone": Kit(
        testing.check_backbone, testing.backbone_checks, raising_components.Backbone, "encode", known="geometry"
    ),
    "Judge": Kit(testing.check_judge, testing.judge_checks, raising_components.Judge, "grade", known="gives-results"),
    "NoiseConditioner": Kit(
        testing.check_noise_conditioner,
        testing.noise_checks,
        raising_components.Noise,
        "initial_noise",
        known="white",
    ),
    "Objective": Kit(
        testing.check_objective,
        testing.objective_checks,
        raising_components.Objective,
        "loss",
        known="batch-mates",
        article="an",
    ),
    "Reconstructor": Kit(
        testing.check_reconstructor,
        testing.reconstructor_checks,
        raising_components.Reconstructor,
        "reconstruct",
        known="unit",
    ),
    "Reward": Kit(testing.check_reward, testing.reward_checks, raising_components.Reward, "score", known="direction"),
    "Sampler": Kit(
        testing.check_sampler,
        testing.sampler_checks,
        raising_components.Sampler,
        "make_scheduler",
        known="seeds",
        arguments={"base": ToyScheduler},
    ),
}


@pytest.fixture(params=KITS)
def kit(request) -> Kit:
    return KITS[request.param]


def test_an_exception_is_reported_once_in_full_with_its_place(kit):
    failed = {name: text for name, text in kit.report(kit.raising).failed.items() if "LookupError" in text}
    first, *others = failed
    assert len(others) > 3
    assert failed[first].splitlines()[0].endswith("LookupError: nothing here")
    assert failed[first].splitlines()[1:] == [f"  Raised at: {kit.place}"]
    assert all(failed[name].startswith(f"the same failure as in {first!r}: ") for name in others)
    assert not any("\n" in failed[name] for name in others)


def test_no_other_check_fails_for_that_exception(kit):
    failed = kit.report(kit.raising).failed
    assert [text for text in failed.values() if "LookupError" not in text] == []


def test_a_component_that_cannot_be_constructed_fails_one_check(kit):
    report = kit.report(kit.raising, options={"no_such_option": 1})
    assert report.passed == []
    assert list(report.failed) == ["constructs"]
    message = report.failed["constructs"]
    assert message.startswith(f"{kit.raising.__name__}(no_such_option=1) raised UserError: Options of ")
    assert "unknown key 'no_such_option'" in message
    assert "Fix:" not in message
    reasons = {reason for name, reason in report.skipped.items() if name not in ("device", "direction")}
    assert reasons == {"the component could not be constructed, see 'constructs'"}


def test_a_single_check_says_what_the_constructor_raised(kit):
    for check in kit.checks(kit.raising, options={"no_such_option": 1}, **kit.arguments)[:4]:
        with pytest.raises(CheckFailed, match="unknown key 'no_such_option'") as raised:
            check()
        assert "Fix:" not in str(raised.value)


def test_a_component_that_cannot_be_constructed_is_constructed_once(kit):
    calls = []

    def make():
        calls.append(None)
        raise RuntimeError("no start")

    assert list(kit.report(make).failed) == ["constructs"]
    assert len(calls) == 1


@pytest.mark.parametrize("form", [list, tuple, set, lambda names: names[0]])
def test_skip_must_be_a_mapping(kit, form):
    with pytest.raises(UserError, match="skip must map the name of a check to the reason") as raised:
        kit.checks(kit.raising, skip=form([kit.known]), **kit.arguments)
    assert f"received {form([kit.known])!r}" in str(raised.value)
    assert f"For example: skip={{{kit.known!r}: '" in str(raised.value)


def test_skip_of_a_plugin_must_be_a_mapping():
    with pytest.raises(UserError, match=r"received \['names'\]. For example: skip=\{'names': '"):
        testing.plugin_checks("worldr1_core.plugin", skip=["names"])


def test_options_must_be_a_mapping(kit):
    with pytest.raises(UserError, match=r"options must map .*, received \['scale'\]"):
        kit.checks(kit.raising, options=["scale"], **kit.arguments)


@pytest.mark.parametrize("name", KITS)
def test_messages_use_the_article_of_the_interface(name):
    kit = KITS[name]
    with pytest.raises(UserError, match=f"Expected {kit.article} {name} class, an instance"):
        kit.checks(3, **kit.arguments)
    assert f"must return {kit.article} {name}, received 3" in kit.report(lambda: 3).failed["constructs"]


class Asserts(raising_components.Reward):
    """Asserts, in [0, 1]."""

    def score(self, clip, inputs):
        assert not clip.prompt, "a prompt"


def test_an_assertion_of_the_component_is_an_exception_like_others():
    failed = KITS["Reward"].report(Asserts).failed["number-or-reason"]
    assert failed.splitlines()[0].startswith("a clip raised AssertionError: a prompt")
    assert "Fix:" not in failed


class CallsTorch(raising_components.Objective):
    """Adds tensors that cannot be added."""

    def loss(self, batch, policy):
        return batch.latents.reshape(5, -1)


def test_an_exception_in_a_library_has_the_place_of_the_call():
    failed = KITS["Objective"].report(CallsTorch).failed["loss-form"]
    line = inspect.getsourcelines(CallsTorch.loss)[1] + 1
    assert f"Raised at: {__file__}:{line}, in loss" in failed


class TwoFaults(raising_components.Reward):
    """Has two faults, in [0, 1]."""

    def score(self, clip, inputs):
        if clip.prompt.strip():
            raise KeyError("words")
        raise ValueError("no words")


def test_another_exception_is_reported_in_full():
    failed = KITS["Reward"].report(TwoFaults).failed
    assert "KeyError: 'words'" in failed["number-or-reason"]
    assert "ValueError: no words" in failed["any-context"]
    assert "Raised at: " in failed["any-context"]
