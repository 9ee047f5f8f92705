from __future__ import annotations

import sys

import pytest
import torch

from worldr1_rewards.probes import memory
from worldr1_rewards.probes.memory import measure_peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak memory")
def test_a_large_tensor_shows_and_is_gone_in_the_next_measure() -> None:
    with measure_peak("cpu") as large:
        torch.ones(64 * 2**20).sum()
    with measure_peak("cpu") as small:
        torch.ones(8).sum()
    if large.megabytes is None:
        pytest.skip("this system does not let a process reset its peak")
    assert large.megabytes == pytest.approx(256, rel=0.1)
    assert small.megabytes is not None
    assert small.megabytes < 64


def test_where_the_system_does_not_tell_there_is_no_number(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    with measure_peak("cpu") as peak:
        torch.ones(2**20).sum()
    assert peak.megabytes is None
