"""What a person sees of a run: lines of progress, the table at its end, and no warnings without meaning."""

from __future__ import annotations

import logging

import pytest
from structlog.testing import capture_logs

from worldr1_core.log import configure_logging
from worldr1_train.cli_filters import UNHELPFUL, unhelpful_warnings_left_out
from worldr1_train.result_table import result_table
from worldr1_train.training_progress import ProgressLines

RESULT = {
    "before": {"psnr": 20.0, "brightness": 0.5, "accuracy": None},
    "after": {"psnr": 21.5, "brightness": 0.5, "accuracy": None},
    "change": {
        "psnr": {"mean": 1.5, "low": 0.25, "high": 2.75, "num_pairs": 4},
        "brightness": {"mean": 0.0, "low": -0.1, "high": 0.1, "num_pairs": 4},
    },
}


class Clock:
    """Seconds that pass when somebody waits."""

    def __init__(self, num_waits, before_wait=lambda number: None):
        self.now, self.waits, self._num_waits, self._before_wait = 0.0, [], num_waits, before_wait

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self._before_wait(len(self.waits))
        self.waits.append(seconds)
        self.now += seconds
        return len(self.waits) > self._num_waits


@pytest.fixture
def logged():
    configure_logging()
    with capture_logs() as entries:
        yield entries


def test_a_line_every_thirty_seconds_says_steps_reward_and_time_left(logged):
    def happen(number):
        if number == 1:  # after 30 s
            lines.advance(3)
            lines.note_reward(0.51234)

    clock = Clock(num_waits=2, before_wait=happen)
    lines = ProgressLines(total=10, done=2, clock=clock, wait=clock.wait)
    lines.run()
    assert max(clock.waits) <= 30
    assert [entry["event"] for entry in logged] == ["training progress"] * 2
    assert (logged[0]["steps"], logged[0]["reward"]) == ("2/10", None)
    assert logged[0]["time_left"] == "unknown until the first step is done"
    # One step of this run took 30 s, seven are left, and 30 s have passed since.
    assert (logged[1]["steps"], logged[1]["reward"], logged[1]["time_left"]) == ("3/10", 0.5123, "0:03:00")


def test_lines_end_with_the_run():
    lines = ProgressLines(total=1, interval=1e-3)
    lines.start()
    lines.stop()
    assert not lines._thread.is_alive()


def test_the_table_has_a_row_a_metric():
    lines = result_table(RESULT).splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert cells[0] == ["metric", "before", "after", "change", "95 % interval", ""]
    assert ["psnr", "20", "21.5", "+1.5", "+0.25 to +2.75", "rose"] in cells
    assert ["brightness", "0.5", "0.5", "+0", "-0.1 to +0.1", "unclear"] in cells
    assert ["accuracy", "-", "-", "-", "-", ""] in cells


def test_the_table_shows_what_training_did_beside_what_the_noise_did():
    by_training = {"psnr": {"mean": 0.5, "low": 0.25, "high": 0.75, "num_pairs": 9}}
    noise = {"noise_only": {"psnr": 21.0, "brightness": 0.5, "accuracy": None}, "change_by_training": by_training}
    lines = result_table({**RESULT, **noise, "trained": ["psnr"]}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert cells[0][1:5] == ["plain noise", "noise only", "after", "by training"]
    order = [row[0] for row in cells if row[0].rstrip(":") in ("trained on", "psnr", "not trained on", "accuracy")]
    assert order == ["trained on:", "psnr", "not trained on:", "accuracy"]
    assert ["psnr", "20", "21", "21.5", "+0.5", "+0.25 to +0.75", "rose"] in cells
    assert ["brightness", "0.5", "0.5", "0.5", "-", "-", ""] in cells


def test_the_table_marks_alarms_and_says_what_happened():
    alarm = {"metric": "brightness", "ratio": 0.9, "message": "brightness fell while psnr rose."}
    change = {**RESULT["change"], "brightness": {"mean": -0.05, "low": -0.06, "high": -0.04, "num_pairs": 9}}
    table = result_table({**RESULT, "change": change, "trained": ["psnr"], "alarms": [alarm]})
    assert "| ALARM: fell to 90%" in table
    assert table.splitlines()[-1] == "ALARM: brightness fell while psnr rose."


def test_no_cell_of_the_table_is_cut():
    long = "a_reward_with_a_rather_long_name_of_its_own"
    result = {"before": {long: 1.0}, "noise_only": {long: 1.0}, "after": {long: 1.0}, "change_by_training": {}}
    table = result_table({**result, "change": {}})
    assert long in table
    assert "…" not in table


def test_a_run_without_evaluation_has_no_table():
    assert result_table({"before": None, "after": None, "change": None}) == ""


@pytest.mark.parametrize("name", UNHELPFUL)
def test_the_command_line_leaves_unhelpful_warnings_out(name):
    logger, shown = logging.getLogger(name), []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())
    logger.addHandler(handler)
    try:
        with unhelpful_warnings_left_out():
            logger.warning("There are modules: " + UNHELPFUL[name])
            logger.warning("weights are missing")
        logger.warning("Afterwards: " + UNHELPFUL[name])
    finally:
        logger.removeHandler(handler)
    assert shown == ["weights are missing", "Afterwards: " + UNHELPFUL[name]]


def test_the_messages_are_those_of_the_installed_diffusers():
    """A version that words them otherwise would show them again."""
    import importlib
    import inspect

    for name, part in UNHELPFUL.items():
        module = importlib.import_module(name)
        assert module.logger.name == name
        assert part in inspect.getsource(module)
