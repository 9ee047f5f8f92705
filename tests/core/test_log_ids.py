"""Ids of log lines: bound, sent as a header, and read from one that a stranger wrote."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldr1_core.log import configure_logging, get_logger
from worldr1_core.log_ids import ID_NAMES, bound_ids, current_ids, prompt_id, read_header, write_header

VALUES = st.from_regex(r"[A-Za-z0-9 ._-]{1,40}", fullmatch=True)


@pytest.fixture
def json_lines(capsys):
    structlog = pytest.importorskip("structlog")
    configure_logging("info", json=True)
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.reset_defaults()


def test_lines_carry_the_ids_of_their_block(json_lines):
    log = get_logger("test")
    with bound_ids(run="r1", step=3, sample=None):
        log.info("inside")
    log.info("outside")
    inside, outside = json_lines()
    assert (inside["run"], inside["step"], "sample" in inside) == ("r1", 3, False)
    assert "run" not in outside


def test_only_known_ids_are_sent():
    with bound_ids(run="r1", step=3, secret="x"):
        assert current_ids() == {"run": "r1", "step": "3"}


@given(st.dictionaries(st.sampled_from(ID_NAMES), VALUES))
def test_a_header_brings_back_what_was_written(ids):
    assert read_header(write_header(ids)) == ids


@given(st.text(max_size=300))
def test_a_strangers_header_yields_nothing_else(text):
    found = read_header(text)
    assert found.keys() <= set(ID_NAMES)
    assert all(0 < len(value) <= 128 and value.isprintable() for value in found.values())


def test_line_breaks_do_not_come_through():
    assert read_header("worldr1.run=a%0AERROR,worldr1.step=1") == {"step": "1"}


def test_ids_of_prompts_depend_on_the_text_alone():
    assert prompt_id("a") == prompt_id("a") != prompt_id("b")
    assert prompt_id("\ud800").startswith("p-")
