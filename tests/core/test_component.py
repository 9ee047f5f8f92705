"""Components: options, their validation, and what a class must be to be named in a manifest."""

from __future__ import annotations

import enum
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError

from worldr1_core.backbone import Backbone
from worldr1_core.component import (
    Component,
    ComponentConfig,
    describe_validation_issue,
    load_component,
    validate_document,
)
from worldr1_core.errors import PluginError, UserError
from worldr1_core.judge import Judge
from worldr1_core.reward import Reward


class Blur(Component):
    """Blurs."""

    class Config(ComponentConfig):
        """Options of the blur."""

        radius: float = Field(1.0, gt=0, le=8, description="Pixels.")
        passes: int = Field(1, ge=1, description="How often.")


class NoBase:
    pass


class LooseConfig(Backbone):
    class Config(BaseModel):
        radius: float = 1.0


class TakesDevice(Backbone):
    class Config(ComponentConfig):
        device: str = "cpu"


class TakesWeight(Reward):
    class Config(ComponentConfig):
        weight: float = 1.0

    def score(self, clip, inputs):
        return 0.0


class ABackbone(Backbone):
    pass


class AJudge(Judge):
    def grade(self, questions):
        return []


instance = Blur()


def test_defaults_and_device():
    blur = Blur()
    assert (blur.config.radius, blur.config.passes, blur.device) == (1.0, 1, "cpu")


def test_options_as_keywords_or_as_a_config():
    assert Blur(radius=2, device="cuda:0").config == Blur(Blur.Config(radius=2)).config
    assert Blur(radius=2, device="cuda:0").device == "cuda:0"


def test_config_is_frozen():
    with pytest.raises(ValidationError):
        Blur().config.radius = 3


def test_unknown_option_suggests_the_right_one():
    with pytest.raises(UserError) as caught:
        Blur(radios=2)
    assert str(caught.value) == (
        "Options of Blur: unknown key 'radios'. Allowed: ['passes', 'radius']. Did you mean 'radius'?"
    )


def test_every_wrong_option_is_told():
    with pytest.raises(UserError, match=r"'radius': .*less than or equal to 8, received 9.*; 'passes': .*received 0"):
        Blur(radius=9, passes=0)


def test_config_and_options_together_are_refused():
    with pytest.raises(UserError, match=r"takes a config or options, not both; received \['radius'\] too"):
        Blur(Blur.Config(), radius=2)


@pytest.mark.parametrize("config", [{"radius": 2}, 3, ComponentConfig()])
def test_config_of_another_type_is_refused(config):
    with pytest.raises(UserError, match=r"Blur needs a Blur\.Config, received"):
        Blur(config)


@pytest.mark.parametrize(
    ("kind", "attribute", "problem"),
    [
        ("reward", "NoBase", "must be a class derived from worldr1_core.reward.Reward"),
        ("reward", "AJudge", "must be a class derived from worldr1_core.reward.Reward"),
        ("reconstructor", "AJudge", "must be a class derived from worldr1_core.reconstructor.Reconstructor"),
        ("judge", "Blur", "must be a class derived from worldr1_core.judge.Judge"),
        ("backbone", "NoBase", "must be a class derived from worldr1_core.backbone.Backbone"),
        ("sampler", "Blur", "must be a class derived from worldr1_core.sampler.Sampler"),
        ("noise conditioner", "Blur", "must be a class derived from worldr1_core.noise.NoiseConditioner"),
        ("backbone", "instance", "must be a class derived from"),
        ("backbone", "LooseConfig", "its Config must derive from worldr1_core.component.ComponentConfig"),
        ("backbone", "TakesDevice", r"must not have the fields \['device'\]"),
        ("reward", "TakesWeight", r"must not have the fields \['weight'\]"),
    ],
)
def test_class_that_a_manifest_cannot_use_names_its_owner(make_registry, kind, attribute, problem):
    registry = make_registry({kind: {"thing": f"{__name__}:{attribute}"}})
    with pytest.raises(PluginError, match=problem) as caught:
        load_component(registry, kind, "thing")
    assert str(caught.value).startswith(f"{kind.capitalize()} 'thing' of acme-rewards 2.0 (plugin 'plugin')")


@pytest.mark.parametrize(("kind", "cls"), [("backbone", ABackbone), ("judge", AJudge)])
def test_class_that_fits_is_returned(make_registry, kind, cls):
    registry = make_registry({kind: {"thing": f"{__name__}:{cls.__name__}"}})
    assert load_component(registry, kind, "thing") is cls


class Mode(enum.Enum):
    FAST = "fast"


class Document(BaseModel):
    count: int = 0
    share: float = 0.0
    flag: bool = False
    size: tuple[int, int] = (1, 1)
    mode: Mode = Mode.FAST
    file: Path = Path()


@pytest.mark.parametrize(
    "data", [{"count": "8"}, {"count": True}, {"share": "0.5"}, {"share": True}, {"flag": "yes"}, {"flag": 1}]
)
def test_document_values_are_not_converted(data):
    with pytest.raises(ValidationError):
        validate_document(Document, data)


def test_document_takes_what_json_can_say():
    read = validate_document(Document, {"share": 1, "size": [2, 3], "mode": "fast", "file": "a/b"})
    assert (read.share, read.size, read.mode, read.file) == (1.0, (2, 3), Mode.FAST, Path("a/b"))


def test_issue_of_a_nested_unknown_key_says_how_to_mend_it():
    issue = {"type": "extra_forbidden", "loc": ("a", "b"), "msg": "", "input": 1}
    assert describe_validation_issue(issue) == "unknown key 'a.b'. Remove it."
    assert describe_validation_issue(issue, ["c"]) == "unknown key 'a.b'. Allowed: ['c']."


def test_issue_of_a_missing_key():
    issue = {"type": "missing", "loc": ("name",), "msg": "", "input": {}}
    assert describe_validation_issue(issue) == "key 'name' is missing."


def test_issue_at_the_top_level_shows_a_short_value():
    issue = {"type": "value_error", "loc": (), "msg": "Value error, no", "input": {"x": "y" * 10_000}}
    described = describe_validation_issue(issue)
    assert described.startswith("no, received {'x': 'yyy")
    assert len(described) < 300
