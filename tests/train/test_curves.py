"""Learning curves: what is read of a log, how it is averaged, and that a picture comes out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from worldr1_core.errors import OutputError, UserError
from worldr1_train.cli_curves import curves
from worldr1_train.curves import plot_curves, read_curves, reward_curves, smooth


def write_log(folder, num_steps=20, slope=0.01):
    folder.mkdir()
    rows = [
        {"step": i + 1, "reward": slope * i, "rewards/shine/mean": i, "rewards/shine/std": 9.0, "kl": 0.5, "loss": 1.0}
        for i in range(num_steps)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_rewards_kl_and_nothing_else_are_read(tmp_path):
    found = read_curves(write_log(tmp_path / "run", 3))
    assert list(found) == ["reward", "shine", "kl"]
    assert found["shine"] == ([1, 2, 3], [0.0, 1.0, 2.0])


def test_totals_of_stages_with_other_rewards_are_curves_of_their_own(tmp_path):
    (tmp_path / "run").mkdir()
    stages = [0, 0, 1, 0, 0, 1]
    rows = [
        {"step": i + 1, "stage": float(stage), "reward": 1.0 - stage, "reward_gain": 0.1 * i, "rewards/shine/mean": 0.5}
        for i, stage in enumerate(stages)
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_curves(tmp_path / "run")
    first, second = ["reward (stage 1)", "reward_gain (stage 1)"], ["reward (stage 2)", "reward_gain (stage 2)"]
    assert list(found) == [*first, "shine", *second]
    assert found["reward (stage 1)"] == ([1, 2, 4, 5], [1.0] * 4)
    assert found["reward (stage 2)"] == ([3, 6], [0.0] * 2)
    assert found["shine"][0] == [1, 2, 3, 4, 5, 6]
    assert list(reward_curves(found)) == first


def test_the_total_of_a_later_stage_is_never_taken_for_that_of_the_first(tmp_path):
    """Policy gradients log no gain, so that a run of two stages has as many totals as one stage with a gain."""
    (tmp_path / "run").mkdir()
    rows = [{"step": i + 1, "stage": float(i % 2), "reward": 0.5, "rewards/shine/mean": 0.5} for i in range(4)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_curves(tmp_path / "run")
    assert list(found) == ["reward (stage 1)", "shine", "reward (stage 2)"]
    assert list(reward_curves(found)) == ["reward (stage 1)"]


def test_a_torn_last_line_is_passed_over_and_a_torn_middle_is_an_error(tmp_path):
    log = write_log(tmp_path / "run", 3) / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 4, "rew')
    assert read_curves(tmp_path / "run")["reward"][0] == [1, 2, 3]
    log.write_text("{}\n" + whole)
    with pytest.raises(UserError, match="line 1"):
        read_curves(tmp_path / "run")


def test_missing_and_empty_logs_are_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        read_curves(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no logged step"):
        read_curves(write_log(tmp_path / "run", 0))


def test_values_that_are_not_finite_leave_a_gap(tmp_path):
    folder = write_log(tmp_path / "run", 2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "reward": NaN, "kl": 1.0}\n')
    found = read_curves(folder)
    assert found["reward"][0] == [1, 2]
    assert found["kl"][0] == [1, 2, 3]


def test_smoothing_looks_back_only():
    assert smooth([4.0, 0.0, 2.0, 6.0], 2) == [4.0, 2.0, 1.0, 4.0]


def test_the_command_draws_several_runs(tmp_path):
    runs = [str(write_log(tmp_path / name, 20, slope)) for name, slope in (("a", 0.01), ("b", 0.02))]
    done = CliRunner().invoke(curves, [*runs, "--out", str(tmp_path / "out" / "curve.png")], catch_exceptions=False)
    assert json.loads(done.stdout)["runs"] == runs
    pixels = np.asarray(Image.open(tmp_path / "out" / "curve.png").convert("L"))
    assert pixels.shape[1] > 800
    assert pixels.min() < 64 < 250 < pixels.max()


def test_another_suffix_and_no_run_are_refused(tmp_path):
    with pytest.raises(OutputError, match="cannot draw"):
        plot_curves({"a": read_curves(write_log(tmp_path / "a"))}, tmp_path / "curve.jpeg2")
    with pytest.raises(UserError, match="no run"):
        plot_curves({}, tmp_path / "curve.png")
