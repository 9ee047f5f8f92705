"""Logging: stderr alone, as text or as JSON lines."""

from __future__ import annotations

import json

import pytest
import structlog
from structlog.testing import capture_logs

from worldr1_core.log import LEVELS, configure_logging, get_logger


def test_events_go_to_stderr(capsys):
    configure_logging("info")
    structlog.get_logger("t").info("hello", number=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err
    assert "number" in captured.err


@pytest.mark.parametrize("level", LEVELS)
def test_lowest_level_shown(capsys, level):
    configure_logging(level)
    for name in LEVELS:
        getattr(structlog.get_logger("t"), name)(f"at-{name}")
    shown = [
        name for name in LEVELS if f"at-{name}" in capsys.readouterr().err or name in LEVELS[LEVELS.index(level) :]
    ]
    assert shown == list(LEVELS[LEVELS.index(level) :])


def test_json_lines_parse_and_carry_fields(capsys):
    configure_logging("debug", json=True)
    log = structlog.get_logger("t").bind(clip="a")
    log.warning('quotes " and\nlines', value={"x": [1, None]}, odd=object())
    try:
        raise ValueError("no")
    except ValueError:
        log.error("failed", exc_info=True)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "error"]
    assert lines[0]["event"] == 'quotes " and\nlines'
    assert lines[0]["clip"] == "a"
    assert lines[0]["value"] == {"x": [1, None]}
    assert "ValueError: no" in lines[1]["exception"]
    assert lines[0]["timestamp"].endswith("Z")


def test_redirected_stderr_is_honoured(capsys):
    configure_logging("info")
    structlog.get_logger("t").info("first")
    assert "first" in capsys.readouterr().err
    structlog.get_logger("t").info("second")
    assert "second" in capsys.readouterr().err


def test_text_has_no_colour_codes_off_a_terminal(capsys):
    configure_logging("info")
    structlog.get_logger("t").info("plain")
    assert "\x1b" not in capsys.readouterr().err


def test_traceback_in_text_is_plain_and_shows_no_values(capsys, recwarn):
    configure_logging("info")
    secret = "value-of-a-local"
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("t").error("failed", exc_info=True)
    shown = capsys.readouterr().err
    assert "ValueError: no" in shown
    assert secret not in shown
    assert [str(warning.message) for warning in recwarn] == []


def test_library_events_reach_the_program_that_configures_structlog(capsys):
    log = get_logger("worldr1_core.test")
    configure_logging("info")
    log.info("hello", number=3)
    assert "hello" in capsys.readouterr().err


def test_library_events_go_to_standard_logging_elsewhere(capsys, caplog):
    structlog.reset_defaults()
    with caplog.at_level("INFO", logger="worldr1_core.test"):
        get_logger("worldr1_core.test").info("100 % of clips", number=3, stack="Traceback: a\n  b")
    assert [(record.name, record.levelname) for record in caplog.records] == [("worldr1_core.test", "INFO")]
    assert caplog.messages == ["100 % of clips (number=3)\nTraceback: a\n  b"]
    assert capsys.readouterr().out == ""


def test_library_events_below_the_level_are_dropped(caplog):
    structlog.reset_defaults()
    get_logger("worldr1_core.test").info("quiet")
    assert caplog.records == []


def test_library_events_can_be_captured():
    with capture_logs() as logs:
        get_logger("worldr1_core.test").warning("hello", number=3)
    assert logs == [{"event": "hello", "number": 3, "log_level": "warning"}]
