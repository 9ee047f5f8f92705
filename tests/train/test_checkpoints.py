"""Checkpoints are whole or not there."""

from __future__ import annotations

import errno
import os
from collections import namedtuple

import pytest
import torch

from worldr1_core.errors import OutputError
from worldr1_train import checkpoints
from worldr1_train.checkpoints import CheckpointWriter, find_last_checkpoint, list_checkpoints, rotate_checkpoints


def write(folder, step, content="weights"):
    writer = CheckpointWriter(folder, step, is_main=True)
    target = writer.begin()
    (target / "weights").write_text(content)
    (target / "inner").mkdir()
    (target / "inner" / "shard").write_text("x")
    return writer.publish()


def test_the_last_whole_checkpoint_is_found(tmp_path):
    for step in (5, 10, 100):
        write(tmp_path, step)
    assert find_last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert find_last_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "tear",
    [
        lambda path: (path / "complete.json").unlink(),
        lambda path: (path / "complete.json").write_text('{"files": {"wei'),
        lambda path: (path / "weights").write_text("w"),
        lambda path: (path / "inner" / "shard").unlink(),
    ],
    ids=["no-marker", "torn-marker", "short-file", "absent-file"],
)
def test_a_torn_checkpoint_is_passed_over(tmp_path, tear):
    write(tmp_path, 5)
    tear(write(tmp_path, 10))
    assert find_last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


def test_nothing_has_the_final_name_before_it_is_whole(tmp_path):
    writer = CheckpointWriter(tmp_path, 5, is_main=True)
    (writer.begin() / "weights").write_text("half")
    assert list_checkpoints(tmp_path) == []
    checkpoints.remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rotation_keeps_the_newest_whole_ones(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    (tmp_path / "checkpoint-4" / "complete.json").unlink()
    (tmp_path / "checkpoint-1" / "complete.json").unlink()
    rotate_checkpoints(tmp_path, 1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-4"]
    rotate_checkpoints(tmp_path, None)
    assert find_last_checkpoint(tmp_path).name == "checkpoint-3"


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    write(tmp_path, 5, "old")
    write(tmp_path, 5, "new")
    assert (tmp_path / "checkpoint-5" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_full_disk_is_told_and_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    write(tmp_path, 5)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*Earlier checkpoints are untouched"):
        write(tmp_path, 10)
    assert find_last_checkpoint(tmp_path).name == "checkpoint-5"


def test_too_little_space_is_told_before_the_run(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage(100, 99, 2**20))
    checkpoints.check_free_space(tmp_path, 2**20)
    with pytest.raises(OutputError, match=r"take about 5 MiB, but .* has only 1 MiB left"):
        checkpoints.check_free_space(tmp_path, 5 * 2**20)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access"), torch.OutOfMemoryError("full")]
)
def test_an_error_of_the_device_is_not_taken_for_a_full_disk(tmp_path, error):
    with pytest.raises(type(error), match=str(error)), checkpoints.as_output_error(tmp_path):
        raise error
    with pytest.raises(OutputError, match="unexpected pos"), checkpoints.as_output_error(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598")
