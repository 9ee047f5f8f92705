"""Every training option is declared once, for manifests and for training arguments."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from train.runs import make_arguments
from worldr1_core.errors import UserError
from worldr1_train.config import FlowGRPOConfig
from worldr1_train.options import OPTIONS, read_section
from worldr1_train.section import TrainSection

SECTION = TrainSection(stages=[{"steps": 8}])


def at(section, key):
    for part in key.split("."):
        section = getattr(section, part)
    return section


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_both_front_doors_have_the_option_with_its_default(option):
    assert at(SECTION, option.key) == option.default
    fields = {field.name: field for field in dataclasses.fields(FlowGRPOConfig)}
    assert option.argument in fields
    if not option.inherited:
        assert fields[option.argument].default == option.to_argument(option.default)


def test_a_section_gives_the_arguments_under_their_names():
    section = TrainSection(
        stages=[{"steps": 8}],
        group_size=4,
        objective={"clip": 0.01, "kl": 0.5, "aggregation": "gdpo", "credit": "spatial"},
        precision="float32",
        ema=None,
    )
    found = read_section(section)
    assert (found["num_generations"], found["epsilon"], found["beta"]) == (4, 0.01, 0.5)
    assert (found["multi_objective_aggregation"], found["credit"]) == ("normalize_then_sum", "spatial")
    assert (found["bf16"], found["ema_decay"]) == (False, None)


@pytest.mark.parametrize("argument", [name for name, option in OPTIONS.items() if option.high and not option.inherited])
def test_both_front_doors_refuse_what_is_out_of_bounds(tmp_path, argument):
    option = OPTIONS[argument]
    too_large = option.high + 1
    with pytest.raises(UserError, match=f"{argument} must be a .*, received {too_large}"):
        make_arguments(tmp_path, **{argument: too_large})
    document = {"stages": [{"steps": 8}]}
    head, _, tail = option.key.rpartition(".")
    document |= {head: {tail: too_large}} if head else {tail: too_large}
    with pytest.raises(ValueError, match=option.name):
        TrainSection.model_validate(document)


def test_an_average_that_is_off_has_no_decay(tmp_path):
    assert make_arguments(tmp_path, ema_decay=None).ema_decay is None
    assert read_section(SimpleNamespace(**{**dict(SECTION), "ema": None}))["ema_decay"] is None
