"""Progress where stderr is no terminal."""

from __future__ import annotations

import time

import structlog

from worldr1_core.progress import Progress


def _logged(seconds: float, *, heartbeat: float = 0.05, item: str | None = "room.mp4 (1000 frames, 160×96)") -> list:
    with structlog.testing.capture_logs() as logs, Progress("Scoring", 3, heartbeat=heartbeat) as progress:
        progress.advance()
        if item is not None:
            progress.begin(item)
        time.sleep(seconds)
    return logs


def test_an_item_that_takes_long_is_named_again_and_again():
    logs = _logged(0.4)
    assert len(logs) >= 2
    assert logs[0]["event"] == "scoring goes on"
    assert (logs[0]["item"], logs[0]["done"]) == ("room.mp4 (1000 frames, 160×96)", "1/3")


def test_an_item_that_is_done_soon_is_not_named():
    assert _logged(0.05, heartbeat=30.0) == []


def test_nothing_is_named_before_the_first_item():
    assert _logged(0.2, item=None) == []


def test_nothing_is_named_after_the_end():
    logs = _logged(0.1)
    count = len(logs)
    time.sleep(0.2)
    assert len(logs) == count
